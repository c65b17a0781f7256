"""The compilers that a build of the kernel uses: where they are, which versions, for which GPUs.

Nothing is compiled here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

_OLDEST_TARGET = 80
"""Compute capability 8.0, times ten: the first with bf16."""

_USUAL_NVCC = "/usr/local/cuda/bin/nvcc"


class KernelBuildError(Exception):
    """The kernel could not be built: `reason` is a sentence for a person, `detail` the compiler's words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class NoSpace(KernelBuildError):
    """The disk of the folder in which the kernel is built is full."""

    def __init__(self, cache: Path, detail: str = "") -> None:
        super().__init__(
            f"no space is left on the disk of {cache}, where the kernel is built: make room there", detail
        )


@dataclass(frozen=True)
class Toolchain:
    """The compilers' commands and what they say of themselves. Without `targets` there is no nvcc either."""

    cxx: list[str]
    nvcc: list[str]
    targets: tuple[str, ...]
    versions: str


def find_toolchain(targets: Sequence[str]) -> Toolchain:
    """The C++ compiler and, if there are nvcc targets such as "sm_90", nvcc.

    The C++ compiler is $CXX, else g++, else c++. nvcc is $CUDACXX, else $CUDA_HOME/bin/nvcc, else nvcc on the
    PATH, else in /usr/local/cuda/bin. Raises KernelBuildError if one is missing or does not work, or if a
    target is too old.
    """
    for target in targets:
        if int(re.sub(r"\D", "", target)) < _OLDEST_TARGET:
            raise KernelBuildError(
                f"the kernel needs a GPU of at least sm_{_OLDEST_TARGET} (Ampere, 2020: the first with bf16) "
                f"and this one is {target}: leave it out with CUDA_VISIBLE_DEVICES, or use another"
            )
    cxx = _cxx()
    nvcc = _nvcc() if targets else []
    versions = [_version(command) for command in (cxx, nvcc) if command]
    in_order = tuple(sorted(set(targets), key=lambda target: (len(target), target)))
    return Toolchain(cxx, nvcc, in_order, "\n".join(versions))


def native_targets() -> tuple[str, ...]:
    """The nvcc targets of the GPUs that PyTorch sees, such as ("sm_90",); () without one.

    It initialises CUDA: not for a process that forks workers.
    """
    found = {torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())}
    return tuple(f"sm_{major}{minor}" for major, minor in sorted(found))


def host_compiler(toolchain: Toolchain) -> str:
    """The C++ compiler as nvcc wants it: one path, so without ccache before it and without flags after it."""
    words = [word for word in toolchain.cxx if not word.startswith("-")]
    return shutil.which(words[-1]) or words[-1]


def cuda_library_flags(toolchain: Toolchain) -> list[str]:
    """Linker flags that lead to the toolkit's libraries: only nvcc knows where they are."""
    asked = [*toolchain.nvcc, "--dryrun", "-x", "cu", "-c", os.devnull]
    said = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(r"^#\$ LIBRARIES=(.*)$", said.stderr, re.MULTILINE)
    return shlex.split(found[1]) if found else []


def _cxx() -> list[str]:
    asked = os.environ.get("CXX")
    if command := _installed(asked, ["g++", "c++"]):
        return command
    missing = f"the C++ compiler {asked!r} that CXX names" if asked else "a C++ compiler"
    raise KernelBuildError(
        f"{missing} was not found: install one (Debian, Ubuntu: apt install g++; "
        f"Fedora: dnf install gcc-c++) or set CXX"
    )


def _nvcc() -> list[str]:
    asked = os.environ.get("CUDACXX")
    home = os.environ.get("CUDA_HOME")
    places = [os.path.join(home, "bin", "nvcc")] if home else []
    places += ["nvcc", _USUAL_NVCC]
    if command := _installed(asked, places):
        return command
    missing = f"the CUDA compiler {asked!r} that CUDACXX names" if asked else "nvcc, the CUDA compiler,"
    raise KernelBuildError(
        f"{missing} was not found: install the CUDA toolkit (12.8 and newer know every GPU from sm_80 to "
        f"sm_120; conda has it as cuda-nvcc and cuda-cudart-static), or set CUDACXX to its bin/nvcc"
    )


def _installed(asked: str | None, usual: Sequence[str]) -> list[str]:
    """The command that was asked for, else the first of the usual ones that is there; [] if none is."""
    commands = [shlex.split(asked)] if asked else [[name] for name in usual]
    return next((command for command in commands if command and shutil.which(command[0])), [])


def _version(command: list[str]) -> str:
    asked = [*command, "--version"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise KernelBuildError(f"{shlex.join(asked)} could not be run: {error}") from error
    if said.returncode != 0:
        raise KernelBuildError(
            f"{shlex.join(asked)} failed: install that compiler anew, or set CXX or CUDACXX to another",
            said.stdout + said.stderr,
        )
    return said.stdout
