"""What a result depends on beside the plan: our code, torch, the device, the threads."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fsearch

ROOMS = ("train", "rwkv7", "kernels", "tasks", "tokenizer")
"""The rooms whose code decides numbers."""

_SOURCES = {".py", ".cpp", ".h", ".cu"}


def environment(device: str, threads: int) -> dict[str, Any]:
    """The parts of a fingerprint that are known before anything runs; `device` is "cpu" or a GPU's model."""
    package = Path(fsearch.__file__).parent
    csrc = package / "csrc" if (package / "csrc").is_dir() else package.parent / "csrc"
    code = {room: _hash_of(package / room) for room in ROOMS}
    return {
        **code,
        "csrc": _hash_of(csrc),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "device": _cpu_model() if device == "cpu" else device,
        "threads": threads,
    }


def _hash_of(folder: Path) -> str:
    """Sixteen hex digits over the names and contents of a folder's sources."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SOURCES and path.is_file():
            total.update(f"{path.relative_to(folder)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"
