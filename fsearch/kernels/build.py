"""Building the compiled kernel from csrc: once per source, torch, compiler and machine type.

`torch.utils.cpp_extension` says where torch's headers and libraries are, and ninja builds. Its `load` is not
used: it has one set of flags for all sources, loads what it built, and its lock is a file that outlives a
killed build and blocks every later one. Here the lock is a flock, which dies with its holder; each build
works in a fresh folder, and the finished library enters the cache by a rename, whole or not at all.

Nothing is loaded here (see `fsearch.kernels.load`), and importing this module is cheap: cpp_extension is
imported only by an actual build.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fsearch.system.process import die_with_parent

# Instruction set -> register width in bytes and compiler flags. The AVX-512 flags are what PyTorch demands of
# a machine before it reports that capability, which is what the binding chooses by.
_X86 = {
    "avx512": (64, "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma"),
    "avx2": (32, "-mavx2 -mfma"),
}
_GENERIC = {"generic": (16, "")}


class KernelBuildError(Exception):
    """The kernel could not be built: `reason` is a sentence for a person, `detail` the compiler's words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Built:
    """A built library, and what `fsearch.kernels.backend` will be on this machine once it is loaded."""

    library: Path
    backend: str


def csrc_dir() -> Path:
    """Folder of the C++ sources: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "csrc"
    return inside if inside.is_dir() else package.parent / "csrc"


def find(cache: Path) -> Path | None:
    """The library that `build(cache)` would return, if it is already there.

    Raises KernelBuildError if there is no working compiler: a library's name depends on it.
    """
    library = _library_path(cache, _compiler())
    return library if library.is_file() else None


def build(cache: Path) -> Built:
    """Build the library into the folder `cache` (created if missing) or return the one already there.

    Callers in several processes wait for one another; a killed one leaves nothing that stops the next.
    Raises KernelBuildError if a compiler or ninja is missing or the compilation fails.
    """
    compiler = _compiler()
    library = _library_path(cache, compiler)
    if not library.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(library.with_suffix(".lock")):
            if not library.is_file():
                _build_at(library, compiler)
    return Built(library, _backend())


def _build_at(library: Path, compiler: list[str]) -> None:
    """Compile and link `library`; the caller holds its lock."""
    prefix = f"{library.stem}-building-"
    for left_by_a_killed_build in library.parent.glob(prefix + "*"):
        shutil.rmtree(left_by_a_killed_build, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=prefix, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "build.ninja").write_text(_ninja_file(compiler))
        ninja = shutil.which("ninja") or shutil.which("ninja", path=str(_environment_bin()))
        if ninja is None:
            raise KernelBuildError("ninja was not found: install it (pip install ninja) to build the kernel")
        parent = os.getpid()
        run = subprocess.run(
            [ninja],
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            # ninja stops its compilers when it is asked to end, and could not if it were killed.
            preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
        )
        if run.returncode != 0:
            raise KernelBuildError(
                f"{compiler[0]} could not compile the kernel in {csrc_dir()}: it takes a C++20 compiler "
                f"(g++ 11 or newer); the compiler's own words follow in the log",
                detail=run.stdout + run.stderr,
            )
        os.replace(folder / "kernel.so", library)


def _ninja_file(compiler: list[str]) -> str:
    from torch.utils import cpp_extension

    csrc = csrc_dir()
    includes = " ".join(f"-isystem {_escaped(path)}" for path in cpp_extension.include_paths())
    libraries = cpp_extension.library_paths()
    links = " ".join(f"-L{_escaped(path)} -Wl,-rpath,{_escaped(path)}" for path in libraries)
    lines = [
        f"cxx = {' '.join(map(_escaped, compiler))}",
        # Contraction into fused multiply-adds is wanted; -ffast-math is not: it would void NaNs.
        "flags = -std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=fast -Wall",
        "rule compile",
        "  command = $cxx $flags $more -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "rule link",
        "  command = $cxx -shared $in -o $out $links",
        f"build binding.o: compile {_escaped(csrc / 'binding.cpp')}",
        f"  more = -fopenmp {includes}",
    ]
    targets = _GENERIC | (_X86 if platform.machine() == "x86_64" else {})
    for isa, (vector_bytes, flags) in targets.items():
        lines += [
            f"build {isa}.o: compile {_escaped(csrc / 'wkv7_cpu.cpp')}",
            f"  more = {flags} -DWKV7_ISA={isa} -DWKV7_VECTOR_BYTES={vector_bytes}",
        ]
    objects = " ".join(f"{isa}.o" for isa in targets)
    lines += [
        f"build kernel.so: link binding.o {objects}",
        f"  links = {links} -ltorch -ltorch_cpu -lc10 -fopenmp -Wl,-z,defs",
    ]
    return "\n".join(lines) + "\n"


def _escaped(path: Path | str) -> str:
    """A word of a shell command inside a ninja file."""
    return shlex.quote(str(path)).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _compiler() -> list[str]:
    """The C++ compiler's command: $CXX, else g++, else c++. Raises KernelBuildError if there is none."""
    asked = os.environ.get("CXX")
    for command in [shlex.split(asked)] if asked else [["g++"], ["c++"]]:
        if command and shutil.which(command[0]):
            return command
    missing = f"the C++ compiler {asked!r} that CXX names" if asked else "a C++ compiler"
    raise KernelBuildError(
        f"{missing} was not found: install one (Debian, Ubuntu: apt install g++; "
        f"Fedora: dnf install gcc-c++) or set CXX"
    )


def _library_path(cache: Path, compiler: list[str]) -> Path:
    """Path in `cache` that names everything the library depends on."""
    asked = [*compiler, "--version"]
    version = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if version.returncode != 0:
        raise KernelBuildError(f"{shlex.join(asked)} failed: install g++ or set CXX", version.stderr)
    digest = hashlib.sha256()
    flags = Path(__file__).read_text()
    parts = [torch.__version__, shlex.join(compiler), version.stdout, platform.machine(), flags]
    for source in sorted(csrc_dir().glob("*")):
        parts += [source.name, source.read_text()]
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return cache.resolve() / f"wkv7-{digest.hexdigest()[:16]}.so"


def _backend() -> str:
    """What the library will say it is: it follows PyTorch's reading of the machine."""
    return {"AVX512": "cpu-avx512", "AVX2": "cpu-avx2"}.get(
        torch.backends.cpu.get_cpu_capability() if platform.machine() == "x86_64" else "", "cpu-generic"
    )


def _environment_bin() -> Path:
    """Where pip puts the ninja of a virtual environment that was not activated."""
    return Path(sysconfig.get_path("scripts"))


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a flock on `path`: the system releases it when its holder dies, however it dies."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
