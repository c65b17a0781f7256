"""Looks at torch, the compilers and the kernel for `fsearch doctor`, in a process of its own.

    python -m fsearch.train.doctor --messages-fd N --parent PID     with the job on stdin

Out goes one `finding` for each thing as soon as it is known, `progress` in between, and a `result`. A kernel
that is not there yet is built into the cache, as a run would. Nothing heavy is imported at the top.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fsearch.system import process
from fsearch.train.job import Channel, Job, argument_parser, main, set_environment

if TYPE_CHECKING:
    import torch

    from fsearch.kernels.library import Implementation

Tell = Callable[..., None]
"""Called with name, level, what was found, and what to do about it."""

_VERSION = re.compile(r"^.*\b\d+\.\d+.*$", re.MULTILINE)
_ERROR = re.compile(r"^.*\b(?:fatal )?error\b.*$", re.MULTILINE)


def run(job: Job, channel: Channel) -> None:
    """Find out about "cuda" (nvcc targets such as "sm_90", none without a GPU) and the kernel of "cache".

    A GPU that is "busy" is left alone: what is tried there takes memory that a run may want.
    """
    channel.enter("build")

    def tell(name: str, level: str, found: str, todo: str = "") -> None:
        channel.send("finding", name=name, level=level, found=found, todo=todo)

    channel.send("progress", doing="loading torch")
    set_environment()
    try:
        import_module("torch")
    except Exception as error:  # whatever a broken installation raises
        tell("torch", "fail", f"it does not load ({type(error).__name__}: {error})", "install torch anew")
        for name in ("C++ compiler", "CUDA toolkit", "ninja", "kernel"):
            tell(name, "warn", "not looked at, because torch does not load")
        channel.send("result", outcome="completed")
        return
    usable = _torch(job, tell)
    cuda = job["cuda"] if usable else []
    _toolchain(cuda, tell)
    channel.send("progress", doing="building the kernel")
    devices = ["cpu", "cuda"] if cuda and not job["busy"] else ["cpu"]
    _kernel(Path(job["cache"]), cuda, devices, channel, tell)
    channel.send("result", outcome="completed")


def _torch(job: Job, tell: Tell) -> bool:
    """Whether it can use the GPU."""
    import torch

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    found = f"{torch.__version__}, built {build}"
    if not job["cuda"]:
        tell("torch", "ok", found)
        return False
    if job["busy"]:
        tell("torch", "ok", f"{found}; the GPU was not tried, because a run uses it")
        return True
    try:
        name = torch.cuda.get_device_name(0)
    except Exception as error:  # whatever CUDA finds wrong
        first = str(error).strip().split("\n")[0]
        todo = f"update the driver to one that runs CUDA {torch.version.cuda}, or install another torch"
        tell("torch", "fail", f"{found}; it cannot use the GPU ({first})", todo)
        return False
    tell("torch", "ok", f"{found}; it sees {name}")
    return True


def _toolchain(cuda: list[str], tell: Tell) -> None:
    from fsearch.kernels.toolchain import KernelBuildError, find_toolchain

    for name, targets in (("C++ compiler", []), ("CUDA toolkit", cuda)):
        if name == "CUDA toolkit" and not cuda:
            tell(name, "ok", "not needed, because no GPU is used")
            continue
        try:
            toolchain = find_toolchain(targets)
        except KernelBuildError as error:
            tell(name, "fail", *_found_and_todo(error.reason))
            continue
        command = toolchain.nvcc if targets else toolchain.cxx
        version = _VERSION.findall(toolchain.versions)[-1 if targets else 0]
        tell(name, "ok", f"{' '.join(command)}: {version.strip()}")


def _found_and_todo(reason: str) -> tuple[str, str]:
    """What is wrong, and what a person is to do, of a sentence of the build."""
    found, _, todo = reason.partition(": ")
    return found, todo


def _kernel(cache: Path, cuda: list[str], devices: list[str], channel: Channel, tell: Tell) -> None:
    """ninja, the build, and whether the kernel computes on `devices` what it should."""
    import torch

    from fsearch import kernels
    from fsearch.kernels import build
    from fsearch.train.contender import WRONG_ABOVE

    ninja = shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))
    without = "without the compiled kernel training goes on with the portable form, many times slower"
    if ninja is None:
        tell("ninja", "fail", "not found", "pip install ninja")
    else:
        tell("ninja", "ok", ninja)
    began_s = time.monotonic()
    try:
        there = build.find(cache, cuda=cuda) is not None
        built = build.build(cache, cuda=cuda, progress=lambda line: channel.send("progress", doing=line))
        kernels.load(built.library)
    except build.KernelBuildError as error:
        found, todo = _found_and_todo(error.reason)
        said = _ERROR.search(error.detail)
        tell("kernel", "fail", f"{found}: {said[0].strip()}" if said else found, todo or without)
        return
    except OSError as error:
        tell("kernel", "fail", f"built, but it does not load ({error})", f"remove {cache}; {without}")
        return
    how = "found built" if there else f"built in {time.monotonic() - began_s:.0f} s"
    channel.send("progress", doing="testing the kernel")
    worst, wrong = 0.0, []
    for device in devices:
        for what, off in _errors(torch.device(device), "cpu" if device == "cpu" else "cuda1").items():
            worst = max(worst, off)
            wrong += [f"{what} on {device} by {off:.1g}"] * (not off <= WRONG_ABOVE[torch.float32])
    if "cuda" in devices and kernels.library.has_cuda2():
        for what, off in _errors(torch.device("cuda"), "cuda2").items():
            wrong += [f"{what} of cuda2 by {off:.1g}"] * (not off <= WRONG_ABOVE[torch.bfloat16])
    if wrong:
        found = f"{built.backend}, {how}; it computes wrongly: {', '.join(wrong)}"
        tell("kernel", "fail", found, f"remove {cache} and look again; if it stays, do not use this compiler")
        return
    right = f"outputs and gradients are right to {worst:.0e} on {' and '.join(devices)}"
    tell("kernel", "ok", f"{built.backend}, {how}; {right}")


def _errors(device: torch.device, kernel: Implementation) -> dict[str, float]:
    """The kernel's relative errors in float32, cuda2's in bfloat16, against the portable form in float64."""
    import torch

    from fsearch.train.contender import Shape, operator, random_case, relative_error

    chunked = kernel == "cuda2"
    shape = Shape(2, 70, 2, 64 if chunked else 16)
    case = random_case(shape, device, torch.bfloat16 if chunked else torch.float32)
    expected = operator(case.part(shape.B, shape.H, torch.float64), "chunked").results()
    found = operator(case, kernel).results()
    return {name: relative_error(x, expected[name]) for name, x in found.items()}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: process.end_own_session())
    sys.exit(main(run, argument_parser().parse_args(), on_parent_death=signal.SIGTERM))  # with its compilers
