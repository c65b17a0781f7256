"""The front of the WKV7 operator: checks the arguments once, in words, and hands them to an implementation.

It computes nothing itself and never builds or loads the compiled library.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from . import library
from .choice import CHUNKED_HEAD_SIZES
from .chunked import wkv7_chunked
from .compiled import state_dtype, wkv7_compiled

HEAD_SIZES = (8, 16, 32, 64, 128)
_DTYPES = (torch.float32, torch.bfloat16, torch.float64)
_NAMES = ("r", "w", "k", "v", "a", "b")


def wkv7_fs(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    s0: Tensor | None = None,
    p: Tensor | None = None,
    *,
    decay: Literal["sigmoid", "exp"] = "sigmoid",
    return_final: bool = False,
    impl: Literal["auto", "cpu", "cuda1", "cuda2", "chunked"] = "auto",
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The RWKV-7 recurrence with the state captured after each sample's first `p` tokens.

    Per head, with S [N,N] (rows = value index, columns = key index) and d_t the decay (Peng et al. 2025,
    "RWKV-7 Goose", arXiv 2503.14456):

        S_t = S_{t-1} diag(d_t) + (S_{t-1} a_t) b_t^T + v_t k_t^T,      y_t = S_t r_t

    Args:
        r, w, k, v, a, b: [B,T,H,N], all float32, all bfloat16 or all float64, any strides; N in 8, 16, 32,
            64, 128; T >= 1. `w` is the raw decay input x; beside bfloat16 it may be float32. States and
            arithmetic are float32 (float64 for float64 inputs).
        s0: state before the first token [B,H,N,N], float32 (float64), or None for zeros.
        p: int32 or int64 [B], number of tokens after which to capture the state, 0 <= p <= T: 0 captures
            `s0`, T the final state. None captures nothing. On a GPU the range is not checked.
        decay: "sigmoid" is d = exp(-exp(-1/2) * sigmoid(x)), "exp" is d = exp(-exp(x)).
        return_final: whether to return the state after the last token.
        impl: "cpu", "cuda1" (sequential) and "cuda2" (on matrix units; r of bfloat16, N of 64 or 128) are the
            compiled kernels, "chunked" the portable one, "auto" a compiled one if it is loaded and there is
            one for the tensors' device and dtype.

    Returns:
        y [B,T,H,N] of r's dtype; the captured state [B,H,N,N], or None without `p`; the final state
        [B,H,N,N], or None if not asked for; states are float32 (float64). All are differentiable once
        ("chunked": twice) with respect to r, w, k, v, a, b and s0.

    Raises:
        ValueError: a shape, device, range or name is wrong. TypeError: a dtype is wrong.
        RuntimeError: impl="cpu", "cuda1" or "cuda2" and no library with that kernel is loaded.
    """
    _check(r, w, k, v, a, b, s0, p)
    if decay not in ("sigmoid", "exp"):
        raise ValueError(f"decay must be 'sigmoid' or 'exp', not {decay!r}")
    if impl == "auto":
        impl = library.chosen(r.device, r.dtype, r.shape, decay)
    if impl == "chunked":
        if p is not None:
            _check_range(p, r.shape[1])
        computed = state_dtype(r.dtype)
        r_, w_, k_, v_, a_, b_ = (x.to(computed) for x in (r, w, k, v, a, b))
        y, cap, sT = wkv7_chunked(r_, w_, k_, v_, a_, b_, s0, None if p is None else p.long(), decay)
        return y.to(r.dtype), cap, sT if return_final else None
    if impl not in ("cpu", "cuda1", "cuda2"):
        raise ValueError(f"impl must be 'auto', 'cpu', 'cuda1', 'cuda2' or 'chunked', not {impl!r}")
    _check_implementation(impl, r)
    return wkv7_compiled(r, w, k, v, a, b, s0, p, decay, return_final, chunked=impl == "cuda2")


def _check_implementation(impl: Literal["cpu", "cuda1", "cuda2"], r: Tensor) -> None:
    """Raise unless that kernel is loaded and can take tensors like `r`."""
    if impl == "cuda2" and (r.dtype != torch.bfloat16 or r.shape[3] not in CHUNKED_HEAD_SIZES):
        raise ValueError(
            f"impl='cuda2' takes bfloat16 tensors with a head size among {CHUNKED_HEAD_SIZES}, r is "
            f"{r.dtype} with {r.shape[3]}; use impl='auto', which chooses"
        )
    if not (library.is_loaded() if impl == "cpu" else library.has_cuda()):
        arguments = "" if impl == "cpu" else ", cuda=native_targets()"
        raise RuntimeError(
            f"impl={impl!r} needs the compiled kernel: call fsearch.kernels.load() with the library that "
            f"fsearch.kernels.build.build(cache{arguments}) makes, or use impl='chunked'"
        )
    device = "cpu" if impl == "cpu" else "cuda"
    if r.device.type != device:
        raise ValueError(
            f"impl={impl!r} needs tensors on a {device} device, r is on {r.device}; use impl='chunked'"
        )
    if impl == "cuda1" and r.dtype == torch.float64:
        raise TypeError("impl='cuda1' computes in float32, r is float64; use impl='chunked'")


def _check(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, s0: Tensor | None, p: Tensor | None
) -> None:
    shape, dtype, device = r.shape, r.dtype, r.device
    if dtype not in _DTYPES:
        raise TypeError(f"r must be float32, bfloat16 or float64, not {dtype}")
    if len(shape) != 4:
        raise ValueError(f"r must have the shape [B,T,H,N], not {list(shape)}")
    B, T, H, N = shape
    if B < 1 or T < 1 or H < 1:
        raise ValueError(f"r must have at least one sample, token and head, not the shape {list(shape)}")
    if N not in HEAD_SIZES:
        raise ValueError(f"r must have a head size N among {HEAD_SIZES}, not {N}")
    for name, x in zip(_NAMES[1:], (w, k, v, a, b), strict=True):
        if x.shape != shape:
            raise ValueError(f"{name} must have the shape of r, {list(shape)}, not {list(x.shape)}")
        finer = name == "w" and dtype == torch.bfloat16
        if x.dtype != dtype and not (finer and x.dtype == torch.float32):
            raise TypeError(f"{name} must be {dtype} like r{', or torch.float32' * finer}, not {x.dtype}")
        _check_device(name, x, device)
    if s0 is not None:
        if s0.shape != (B, H, N, N):
            raise ValueError(f"s0 must have the shape [B,H,N,N] = {[B, H, N, N]}, not {list(s0.shape)}")
        if s0.dtype != state_dtype(dtype):
            raise TypeError(f"s0 must be {state_dtype(dtype)} beside r of {dtype}, not {s0.dtype}")
        _check_device("s0", s0, device)
    if p is not None:
        if p.shape != (B,):
            raise ValueError(f"p must have the shape [B] = {[B]}, not {list(p.shape)}")
        if p.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"p must be int32 or int64, not {p.dtype}")
        _check_device("p", p, device)


def _check_range(p: Tensor, T: int) -> None:
    """Raise for a count that no sample of T tokens has, where it can be read without waiting for a device."""
    if p.device.type != "cpu" or type(p) is not Tensor or torch.compiler.is_compiling():
        return
    for count in (int(p.min()), int(p.max())):
        if not 0 <= count <= T:
            raise ValueError(f"p must lie between 0 and T = {T}, it holds {count}")


def _check_device(name: str, x: Tensor, device: torch.device) -> None:
    if x.device != device:
        raise ValueError(f"{name} must be on {device} like r, not on {x.device}")
