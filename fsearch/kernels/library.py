"""Which implementation runs: loading the compiled library, saying its name, and forcing the fallback.

The state kept here is of the process: a library once loaded stays loaded. It builds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from . import choice, compiled, tuning

FALLBACK = "torch-chunked"
Implementation = Literal["cpu", "cuda1", "cuda2", "chunked"]

_loaded: Path | None = None
_has_v2 = False
_table: choice.Table = ()
_forced: Literal["auto", "chunked"] = "auto"


def load(path: Path) -> None:
    """Load the library that `build` made; from then on `wkv7_fs(impl="auto")` uses it on the devices it has
    kernels for, and chooses between two by the measurements beside it. Those are read here and never again.

    Loading the same path again does nothing. Raises OSError if it cannot be loaded, and RuntimeError if
    another library is loaded already: one process has one kernel.
    """
    global _loaded, _has_v2, _table
    path = path.resolve()
    if path == _loaded:
        return
    if _loaded is not None:
        raise RuntimeError(f"the kernel library {_loaded} is already loaded; {path} needs a new process")
    torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
    compiled.register()
    _loaded = path
    arguments = torch.ops.fsearch.wkv7.default._schema.arguments
    _has_v2 = has_cuda() and any(argument.name == "chunked" for argument in arguments)
    _table = tuning.read(path) if _has_v2 else ()


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


def has_cuda2() -> bool:
    """Whether the loaded library holds the chunked CUDA kernel too, v2."""
    return _has_v2


def runs_compiled(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether "auto" stands for a compiled kernel, for tensors of this kind."""
    if _loaded is None or _forced == "chunked":
        return False
    return device.type == "cpu" or (device.type == "cuda" and dtype != torch.float64 and has_cuda())


def chosen(device: torch.device, dtype: torch.dtype, shape: Sequence[int], decay: str) -> Implementation:
    """The implementation that "auto" stands for, for tensors r, k, v, a, b of this kind [B,T,H,N]."""
    if not runs_compiled(device, dtype):
        return "chunked"
    if device.type == "cpu":
        return "cpu"
    if not _has_v2:
        return "cuda1"
    B, T, H, N = shape
    call = choice.Call(architecture(device.index or 0), _plain(dtype), B, T, H, N, decay)
    return choice.chosen(call, _table, has_v2=True)


@cache
def architecture(index: int) -> str:
    """What nvcc calls a GPU, such as "sm_90". It starts CUDA."""
    major, minor = torch.cuda.get_device_capability(index)
    return f"sm_{major}{minor}"


def backend(device: str = "cpu", dtype: torch.dtype | None = None, head_size: int | None = None) -> str:
    """What runs on a kind of device: "cpu-avx512", "cpu-avx2", "cpu-generic"; on a GPU "cuda1", or "cuda2" or
    "cuda2-tuned-..." (see `choice.name`) where v1 and v2 share the calls; "torch-chunked" is the fallback.

    With a dtype and a head size it is "cuda1" where v2 can have no part. It does not start CUDA.
    """
    if not runs_compiled(torch.device(device), dtype or torch.float32):
        return FALLBACK
    if device == "cpu":
        return str(torch.ops.fsearch.backend())
    alone = dtype is not None and head_size is not None and not choice.v2_takes(_plain(dtype), head_size)
    return choice.name(_table, has_v2=_has_v2 and not alone)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
