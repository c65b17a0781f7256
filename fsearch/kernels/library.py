"""Which implementation runs: loading the compiled library, saying its name, and forcing the fallback.

The state kept here is of the process: a library once loaded stays loaded. It builds nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from . import compiled

FALLBACK = "torch-chunked"
Implementation = Literal["cpu", "cuda1", "chunked"]

_loaded: Path | None = None
_forced: Literal["auto", "chunked"] = "auto"


def load(path: Path) -> None:
    """Load the library that `build` made; from then on `wkv7_fs(impl="auto")` uses it on the devices it has
    kernels for.

    Loading the same path again does nothing. Raises OSError if it cannot be loaded, and RuntimeError if
    another library is loaded already: one process has one kernel.
    """
    global _loaded
    path = path.resolve()
    if path == _loaded:
        return
    if _loaded is not None:
        raise RuntimeError(f"the kernel library {_loaded} is already loaded; {path} needs a new process")
    torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
    compiled.register()
    _loaded = path


def is_loaded() -> bool:
    """Whether a compiled library is loaded in this process."""
    return _loaded is not None


def use(impl: Literal["auto", "chunked"]) -> None:
    """Choose what `wkv7_fs(impl="auto")` means in this process: "chunked" forces the fallback.

    Raises ValueError for another name.
    """
    global _forced
    if impl not in ("auto", "chunked"):
        raise ValueError(f"impl must be 'auto' or 'chunked', not {impl!r}")
    _forced = impl


def has_cuda() -> bool:
    """Whether a library is loaded that holds the CUDA kernels."""
    return _loaded is not None and bool(torch.ops.fsearch.has_cuda())


def chosen(device: torch.device, dtype: torch.dtype = torch.float32) -> Implementation:
    """The implementation that "auto" stands for, for tensors of this kind."""
    if _loaded is None or _forced == "chunked":
        return "chunked"
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda" and dtype != torch.float64 and has_cuda():
        return "cuda1"
    return "chunked"


def backend(device: str = "cpu") -> str:
    """What runs on a kind of device: "cpu-avx512", "cpu-avx2", "cpu-generic", "cuda1"; "torch-chunked" is the
    fallback.
    """
    implementation = chosen(torch.device(device))
    if implementation == "chunked":
        return FALLBACK
    return "cuda1" if implementation == "cuda1" else str(torch.ops.fsearch.backend())
