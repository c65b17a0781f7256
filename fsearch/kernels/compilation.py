"""One compilation of csrc by ninja: its recipe, its run under a deadline, and why it failed.

`torch.utils.cpp_extension` says where torch's headers and libraries are. Its `load` is not used: it has one
set of flags for all sources, loads what it built, and its lock is a file that outlives a killed build and
blocks every later one.
"""

from __future__ import annotations

import os
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fsearch.system.process import die_with_parent, kill_tree

from .toolchain import KernelBuildError, NoSpace, Toolchain, cuda_library_flags, host_compiler

Progress = Callable[[str], None]
"""Is told, in a few words, how far the build is."""

# Instruction set -> register width in bytes and compiler flags. The AVX-512 flags are what PyTorch demands of
# a machine before it reports that capability, which is what the binding chooses by.
_X86 = {
    "avx512": (64, "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma"),
    "avx2": (32, "-mavx2 -mfma"),
}
_PLAIN_BYTES = 16
_GENERIC = {"generic": (_PLAIN_BYTES, "")}

_MOST_DETAIL = 40_000
"""Characters of compiler output that are kept: half of them from its beginning, half from its end."""


class Deadline:
    """The moment at which a build that began now has taken `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._at = time.monotonic() + limit_s

    def left_s(self) -> float:
        return max(0.0, self._at - time.monotonic())


def compile_library(
    folder: Path, csrc: Path, toolchain: Toolchain, deadline: Deadline, progress: Progress
) -> Path:
    """Compile and link all of `csrc` in the empty `folder`; the path of the library.

    Raises KernelBuildError if ninja is missing, a compiler fails or the deadline passes; whatever it raises,
    no process that it started is left. Raises OSError if the folder cannot be written.
    """
    ninja = shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))
    if ninja is None:
        raise KernelBuildError("ninja was not found: install it (pip install ninja) to build the kernel")
    recipe = _recipe(csrc, toolchain)
    (folder / "build.ninja").write_text(recipe)
    progress(f"compiled 0 of {len(re.findall('^build ', recipe, re.MULTILINE))}")
    parent = os.getpid()
    run = subprocess.Popen(
        [ninja],
        cwd=folder,
        # In English, because _reason reads it; the compilers' own files are cleared away with the folder.
        env={**os.environ, "LC_ALL": "C", "TMPDIR": ".", "NINJA_STATUS": "[%f/%t] "},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # ninja stops its compilers when it is asked to end, and could not if it were killed.
        preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
    )
    said: list[str] = []
    with run:
        try:
            for line in _lines(run, deadline):
                said.append(line)
                if done := re.fullmatch(r"\[(\d+)/(\d+)\] (.*)", line):
                    progress(f"compiled {done[1]} of {done[2]}: {done[3]}")
        except BaseException as error:
            kill_tree(run.pid)
            if not isinstance(error, TimeoutError):
                raise
            raise KernelBuildError(
                f"the kernel was not compiled within {deadline.limit_s:g} s and its compilers were ended: "
                f"build again when the machine is less busy",
                _shortened("\n".join(said)),
            ) from error
    if run.returncode != 0:
        output = "\n".join(said)
        if re.search(r"No space left on device|Disk quota exceeded", output):
            raise NoSpace(folder.parent, _shortened(output))
        raise KernelBuildError(_reason(output, folder, csrc, toolchain), _shortened(output))
    return folder / "kernel.so"


def _recipe(csrc: Path, toolchain: Toolchain) -> str:
    """The ninja file. What takes longest comes first, because ninja starts in this order."""
    from torch.utils import cpp_extension  # takes seconds, and only a build needs it

    includes = " ".join(f"-isystem {_word(path)}" for path in cpp_extension.include_paths())
    paths = cpp_extension.library_paths()
    links = " ".join(f"-L{_word(path)} -Wl,-rpath,{_word(path)}" for path in paths)
    links += " -ltorch -ltorch_cpu -lc10 -fopenmp -Wl,-z,defs"
    lines = [
        f"cxx = {' '.join(map(_word, toolchain.cxx))}",
        # Contraction into fused multiply-adds is wanted; -ffast-math is not: it would void NaNs.
        "flags = -std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=fast -Wall",
        "rule compile",
        "  command = $cxx $flags $more -c $in -o $out",
        "  description = $what",
        "rule link",
        "  command = $cxx -shared $in -o $out $links",
        "  description = linked",
    ]
    objects = []

    def add(rule: str, source: Path, more: str, variant: str = "") -> None:
        objects.append(f"{source.name}{'.' + variant if variant else ''}.o")
        lines.extend(
            [
                f"build {_path(objects[-1])}: {rule} {_path(source)}",
                f"  what = {_path(source.name)}{f' ({variant})' if variant else ''}",
                f"  more = {more}",
            ]
        )

    if toolchain.targets:
        host = _word(host_compiler(toolchain))
        lines += [
            f"nvcc = {' '.join(map(_word, toolchain.nvcc))} -ccbin {host}",
            "rule cuda",
            "  command = $nvcc -O3 -std=c++17 -Xcompiler -fPIC -Xcompiler -fvisibility=hidden $more "
            "-c $in -o $out",
            "  description = $what",
        ]
        targets = [f"-gencode arch={t.replace('sm_', 'compute_')},code={t}" for t in toolchain.targets]
        for source in sorted(csrc.glob("*.cu")):
            add("cuda", source, " ".join(targets))
        # A runtime of our own that nobody else in the process sees: no other version can take its place.
        found = " ".join(map(_word, cuda_library_flags(toolchain)))
        links += f" {found} -lcudart_static -ldl -lrt -lpthread -Wl,--exclude-libs,ALL"
    for source in sorted(csrc.glob("binding*.cpp")):
        add("compile", source, f"-fopenmp {includes}{' -DFSEARCH_CUDA' if toolchain.targets else ''}")
    instruction_sets = _GENERIC | (_X86 if platform.machine() == "x86_64" else {})
    for source in sorted(csrc.glob("*_cpu.cpp"), key=lambda source: -_widest(source)):
        for isa, (vector_bytes, flags) in instruction_sets.items():
            if vector_bytes <= _widest(source):
                more = f"{flags} -DWKV7_ISA={isa} -DWKV7_VECTOR_BYTES={vector_bytes}"
                add("compile", source, more, isa if _widest(source) > _PLAIN_BYTES else "")
    lines += [f"build kernel.so: link {' '.join(map(_path, objects))}", f"  links = {links}"]
    return "\n".join(lines) + "\n"


def _widest(source: Path) -> int:
    """The widest registers, in bytes, that a source is compiled for. Small operators wait for memory."""
    return {"wkv7_cpu.cpp": 64, "fused_cpu.cpp": 32}.get(source.name, _PLAIN_BYTES)


def _path(path: Path | str) -> str:
    """A path in a ninja file; ninja itself quotes it for the shell."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _word(word: Path | str) -> str:
    """A word of a shell command in a ninja file."""
    return _path(shlex.quote(str(word)))


def _lines(run: subprocess.Popen[bytes], deadline: Deadline) -> Iterator[str]:
    """What a process prints, line by line, until its end. Raises TimeoutError at the deadline."""
    assert run.stdout is not None
    rest = b""
    while (left_s := deadline.left_s()) and select.select([run.stdout], [], [], left_s)[0]:
        data = os.read(run.stdout.fileno(), 1 << 16)
        if not data:
            yield from filter(None, [rest.decode(errors="replace")])
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    raise TimeoutError


def _reason(output: str, folder: Path, csrc: Path, toolchain: Toolchain) -> str:
    """A sentence for a person, from what ninja and the compilers printed."""
    nvcc = " ".join(toolchain.nvcc)
    if re.search(r"Unsupported gpu architecture|is not defined for option 'gpu", output):
        return (
            f"{nvcc} does not know one of the targets {' '.join(toolchain.targets)}: install a newer CUDA "
            f"toolkit (12.8 and newer know every GPU from sm_80 to sm_120), or set CUDACXX to its bin/nvcc"
        )
    if re.search(r"unsupported (GNU|clang) version", output):
        return (
            f"{nvcc} does not work with a C++ compiler as new as {host_compiler(toolchain)}: "
            f"set CXX to an older one (such as g++-13), or install a newer CUDA toolkit"
        )
    first = re.search(r"^.*\b(?:error|fatal)\s*:.*$", output, re.MULTILINE)
    words = f" ({first[0].strip()[:300]})" if first else ""
    if re.search(r"^FAILED: .*\.cu\.o", output, re.MULTILINE):
        return (
            f"{nvcc} could not compile the CUDA kernels in {csrc}{words}: it takes CUDA toolkit 12 or newer"
        )
    return (
        f"{toolchain.cxx[0]} could not compile the kernel in {csrc}{words}: "
        f"it takes a C++20 compiler (g++ 11 or newer)"
    )


def _shortened(text: str) -> str:
    if len(text) <= _MOST_DETAIL:
        return text
    half = _MOST_DETAIL // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters are left out here ...\n{text[-half:]}"
