"""Says on what everything ran, as JSON: python -m tests.gpu.machine DEVICE. Fails if there is no such one."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fsearch import __version__
from fsearch.kernels.toolchain import KernelBuildError, find_toolchain
from fsearch.train.bench_kernel import device_of
from fsearch.train.kernel_measurement import targets_of


def machine(device: torch.device) -> dict[str, Any]:
    """The card, the driver, versions, and the commit where there is one."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    targets = targets_of(device)
    try:
        compilers = re.findall(r"^.*\b\d+\.\d+\.\d+.*$", find_toolchain(targets).versions, re.MULTILINE)
    except KernelBuildError as error:
        compilers = [error.reason]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
        "gpu": gpu and gpu.name,
        "gpu_memory_gib": gpu and round(gpu.total_memory / 2**30, 1),
        "architecture": targets[0] if targets else None,
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpu else None,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "compilers": compilers,
        "fla_core": _version("fla-core"),
        "flash_linear_attention": _version("flash-linear-attention"),
        "fsearch": __version__,
        "commit": _said("git", "describe", "--always", "--dirty"),
    }


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    try:
        print(json.dumps(machine(device_of(sys.argv[1])), indent=1))
    except ValueError as error:
        sys.exit(str(error))
