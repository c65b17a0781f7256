"""Compiling .cu files with the emulated cuda_prims.h, and loading them."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from fsearch.kernels.build import csrc_dir
from fsearch.kernels.toolchain import find_toolchain

_HERE = Path(__file__).parent


class KernelFault(Exception):
    """A launch failed; the message is what the kernels' error function says."""


class Library:
    """A loaded kernel file: `functions` are its extern "C" functions."""

    def __init__(self, path: Path) -> None:
        self.functions = ctypes.CDLL(str(path))
        self.functions.emulation_allow.argtypes = [
            ctypes.c_char_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int,
            ctypes.c_int,
        ]
        self.functions.emulation_schedule.argtypes = [ctypes.c_uint64]

    def schedule(self, number: int) -> None:
        """In what order threads and blocks take turns: 0 ascending, 1 descending, others pseudo-random."""
        self.functions.emulation_schedule(number)

    @contextmanager
    def memory(
        self, read: Mapping[str, Tensor | None], written: Mapping[str, Tensor | None]
    ) -> Iterator[None]:
        """While open, kernels may read these tensors, write those of `written`, and touch nothing else."""
        for tensors, writable in ((read, 0), (written, 1)):
            for name, x in tensors.items():
                if x is not None:
                    assert x.is_contiguous() and x.device.type == "cpu"
                    self.functions.emulation_allow(
                        name.encode(), x.data_ptr(), x.numel(), x.itemsize, writable
                    )
        try:
            yield
        finally:
            self.functions.emulation_forget_all()


def compile_kernels(source: str, name: str = "kernels.cu") -> Library:
    """The library of a .cu file's text: see `compile_files`."""
    return compile_files({name: source})


def compile_files(files: Mapping[str, str]) -> Library:
    """One library of .cu files, and headers to replace those of csrc/, all by their names.

    They may include the other headers of csrc/; of cuda_prims.h they get ours. Raises AssertionError with
    the compiler's words if it does not compile.
    """
    flags = ["-x", "c++", "-std=c++20", "-O1", "-fPIC"]
    flags += ["-fno-gnu-unique"]  # other loaded libraries have the same names
    flags += ["-U_FORTIFY_SOURCE"]  # it takes a jump to another stack for an error
    flags += ["-ffp-contract=off"]  # products and sums are fused where the source says so
    if _has_fma():
        flags += ["-mfma"]
    with tempfile.TemporaryDirectory(prefix="emulation-") as folder_name:
        folder = Path(folder_name)
        for header in (*csrc_dir().glob("*.h"), *_HERE.glob("*.h")):  # ours replace csrc's of the same name
            shutil.copy(header, folder)
        for name, text in files.items():
            (folder / name).write_text(text)
        cxx = find_toolchain(()).cxx
        sources = [name for name in files if name.endswith(".cu")]
        _run_all([[*cxx, *flags, "-c", name, "-o", name + ".o"] for name in sources], folder)
        objects = [name + ".o" for name in sources]
        _run_all([[*cxx, "-shared", "-Wl,-Bsymbolic", *objects, "-o", "kernels.so"]], folder)
        return Library(folder / "kernels.so")


def _run_all(commands: list[list[str]], folder: Path) -> None:
    """All at once."""
    runs = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [run.communicate()[1] for run in runs]
    assert not any(run.returncode for run in runs), "".join(said)


def kernel_source(name: str) -> str:
    """The text of csrc/<name>."""
    return (csrc_dir() / name).read_text()


def _has_fma() -> bool:
    """Whether this machine fuses a product and a sum in one instruction that has to be asked for."""
    cpu = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and cpu.exists() and " fma " in cpu.read_text()
