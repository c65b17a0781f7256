"""Which implementation runs: loading the compiled library, saying its name, and forcing the fallback.

The state kept here is of the process: a library once loaded stays loaded. It builds nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from . import compiled

FALLBACK = "torch-chunked"

_loaded: Path | None = None
_forced: Literal["auto", "chunked"] = "auto"


def load(path: Path) -> None:
    """Load the library that `build` made; from then on `wkv7_fs(impl="auto")` uses it on CPU tensors.

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


def chosen(device: torch.device) -> Literal["cpu", "chunked"]:
    """The implementation that "auto" stands for on `device`."""
    return "cpu" if _loaded is not None and _forced == "auto" and device.type == "cpu" else "chunked"


def backend() -> str:
    """What runs CPU tensors: "cpu-avx512", "cpu-avx2", "cpu-generic", or "torch-chunked" for the fallback."""
    if chosen(torch.device("cpu")) == "chunked":
        return FALLBACK
    return str(torch.ops.fsearch.backend())
