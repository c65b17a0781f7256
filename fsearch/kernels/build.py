"""Building the compiled kernel from csrc: once per source, torch, compilers, GPU targets and machine type.

The lock is a flock, which dies with its holder; each build works in a fresh folder, and the finished library
enters the cache by a rename, whole or not at all.

Nothing is loaded here (see `fsearch.kernels.load`), and importing this module is cheap.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fsearch.system import faults
from fsearch.system.scratch import locked

from . import choice, tuning
from .compilation import Deadline, Progress, compile_library
from .toolchain import KernelBuildError, NoSpace, Toolchain, find_toolchain, native_targets

__all__ = ["Built", "KernelBuildError", "build", "csrc_dir", "find", "native_targets"]

_POLL_S = 0.1
_BUILDING = "-building-"  # in the name of the folder in which a library is built


@dataclass(frozen=True)
class Built:
    """A built library.

    `backend` is what `fsearch.kernels.backend` will be once it is loaded: of the GPU if the library was built
    for one, else of this machine's CPU.
    """

    library: Path
    backend: str
    cuda: tuple[str, ...]  # the GPU targets that it has CUDA kernels for


def csrc_dir() -> Path:
    """Folder of the C++ sources: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "csrc"
    return inside if inside.is_dir() else package.parent / "csrc"


def find(cache: Path, *, cuda: Sequence[str] = ()) -> Path | None:
    """The library that `build` with these arguments would return, if it is already there.

    Raises KernelBuildError if there is no working compiler: a library's name depends on it.
    """
    library = _library_path(cache, find_toolchain(cuda))
    return library if library.is_file() else None


def build(
    cache: Path, *, cuda: Sequence[str] = (), deadline_s: float = 900.0, progress: Progress | None = None
) -> Built:
    """Build the library into the folder `cache` (created if missing) or return the one already there.

    Callers in several processes wait for one another; a killed one leaves nothing that stops the next.

    Args:
        cuda: nvcc targets such as "sm_90"; without any, the library has no CUDA kernels.
        deadline_s: the most it may take, waiting for others included.
        progress: called with a few words each time something is done, about ten times in all.

    Raises KernelBuildError if a compiler or ninja is missing, a compilation fails, the folder cannot be
    written or the deadline passes. What `progress` raises ends the build and its compilers.
    """
    toolchain = find_toolchain(cuda)
    library = _library_path(cache, toolchain)
    deadline = Deadline(deadline_s)
    if library.is_file():
        _clear_up(library)
    else:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with _lock(library.with_suffix(".lock"), deadline, progress or _silent):
                if not library.is_file():
                    _build_at(library, toolchain, deadline, progress or _silent)
        except BrokenPipeError:  # nobody listens to the progress any more
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(cache) from error
            raise KernelBuildError(_about_the_folder(cache, error)) from error
    return Built(library, _cuda_backend(library) if toolchain.targets else _cpu_backend(), toolchain.targets)


def _silent(line: str) -> None:
    pass


def _build_at(library: Path, toolchain: Toolchain, deadline: Deadline, progress: Progress) -> None:
    """Compile and link `library`; the caller holds its lock."""
    _clear_up(library)
    prefix = library.stem + _BUILDING
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=prefix, ignore_cleanup_errors=True) as name:
        built = compile_library(Path(name), csrc_dir(), toolchain, deadline, progress)
        faults.point("before the kernel is in its place")
        os.replace(built, library)
        faults.point("after the kernel is in its place")


def _clear_up(library: Path) -> None:
    """Remove what killed builds of `library` have left."""
    for folder in library.parent.glob(f"{library.stem}{_BUILDING}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _about_the_folder(cache: Path, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{cache} may not be written ({error.strerror}), the kernel is built there: make it writable"
    return f"the kernel cannot be built in {cache}: {error}"


def _library_path(cache: Path, toolchain: Toolchain) -> Path:
    """Path in `cache` that names everything the library depends on."""
    digest = hashlib.sha256()
    recipe = Path(__file__).with_name("compilation.py").read_text()
    parts = [torch.__version__, shlex.join(toolchain.cxx), toolchain.versions, platform.machine(), recipe]
    parts += [shlex.join(toolchain.nvcc), *toolchain.targets]
    for source in sorted(csrc_dir().glob("*")):
        parts += [source.name, source.read_text()]
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return cache.resolve() / f"wkv7-{digest.hexdigest()[:16]}.so"


def _cuda_backend(library: Path) -> str:
    has_v2 = any(csrc_dir().glob("wkv7_v2*.cu"))
    return choice.name(tuning.read(library) if has_v2 else (), has_v2=has_v2)


def _cpu_backend() -> str:
    """What the library will say it is: it follows PyTorch's reading of the machine."""
    return {"AVX512": "cpu-avx512", "AVX2": "cpu-avx2"}.get(
        torch.backends.cpu.get_cpu_capability() if platform.machine() == "x86_64" else "", "cpu-generic"
    )


@contextlib.contextmanager
def _lock(path: Path, deadline: Deadline, progress: Progress) -> Iterator[None]:
    """Hold a flock on `path`: the system releases it when its holder dies, however it dies."""
    with open(path, "a") as file:
        waited = False
        while not locked(file.fileno()):
            if not waited:
                progress("waiting for another build of the kernel")
                waited = True
            if deadline.left_s() == 0:
                raise KernelBuildError(
                    f"another process still builds the kernel after {deadline.limit_s:g} s and holds "
                    f"{path}: wait for it or end it, then build again"
                )
            time.sleep(_POLL_S)
        yield
