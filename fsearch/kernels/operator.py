"""The front of the WKV7 operator: checks the arguments once, in words, and hands them to an implementation.

It computes nothing itself and never builds or loads the compiled library.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from . import library
from .chunked import wkv7_chunked
from .compiled import wkv7_compiled

HEAD_SIZES = (8, 16, 32, 64, 128)
_DTYPES = (torch.float32, torch.float64)
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
    impl: Literal["auto", "cpu", "chunked"] = "auto",
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The RWKV-7 recurrence with the state captured after each sample's first `p` tokens.

    Per head, with S [N,N] (rows = value index, columns = key index) and d_t the decay (Peng et al. 2025,
    "RWKV-7 Goose", arXiv 2503.14456):

        S_t = S_{t-1} diag(d_t) + (S_{t-1} a_t) b_t^T + v_t k_t^T,      y_t = S_t r_t

    Args:
        r, w, k, v, a, b: [B,T,H,N], all float32 or all float64, any strides; N in 8, 16, 32, 64, 128; T >= 1.
            `w` is the raw decay input x.
        s0: state before the first token [B,H,N,N], same dtype, or None for zeros.
        p: int32 or int64 [B], number of tokens after which to capture the state, 0 <= p <= T: 0 captures
            `s0`, T the final state. None captures nothing. On a GPU the range is not checked.
        decay: "sigmoid" is d = exp(-exp(-1/2) * sigmoid(x)), "exp" is d = exp(-exp(x)).
        return_final: whether to return the state after the last token.
        impl: "cpu" is the compiled kernel, "chunked" the portable one, "auto" the compiled one if it is
            loaded and the tensors are on the CPU.

    Returns:
        y [B,T,H,N]; the captured state [B,H,N,N], or None without `p`; the final state [B,H,N,N], or None if
        not asked for. All are differentiable once ("chunked": twice) with respect to r, w, k, v, a, b and s0.

    Raises:
        ValueError: a shape, device, range or name is wrong. TypeError: a dtype is wrong.
        RuntimeError: impl="cpu" and no library is loaded.
    """
    _check(r, w, k, v, a, b, s0, p)
    if decay not in ("sigmoid", "exp"):
        raise ValueError(f"decay must be 'sigmoid' or 'exp', not {decay!r}")
    if impl == "auto":
        impl = library.chosen(r.device)
    if impl == "chunked":
        counts = None if p is None else p.long()
        y, cap, sT = wkv7_chunked(r, w, k, v, a, b, s0, counts, decay)
        return y, cap, sT if return_final else None
    if impl != "cpu":
        raise ValueError(f"impl must be 'auto', 'cpu' or 'chunked', not {impl!r}")
    if not library.is_loaded():
        raise RuntimeError(
            "impl='cpu' needs the compiled kernel: call fsearch.kernels.load() with the path that "
            "fsearch.kernels.build.build() returns, or use impl='chunked'"
        )
    if r.device.type != "cpu":
        raise ValueError(f"impl='cpu' needs tensors on the CPU, r is on {r.device}; use impl='chunked'")
    return wkv7_compiled(r, w, k, v, a, b, s0, p, decay, return_final)


def _check(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, s0: Tensor | None, p: Tensor | None
) -> None:
    shape, dtype, device = r.shape, r.dtype, r.device
    if dtype not in _DTYPES:
        raise TypeError(f"r must be float32 or float64, not {dtype}")
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
        _check_kind(name, x, dtype, device)
    if s0 is not None:
        if s0.shape != (B, H, N, N):
            raise ValueError(f"s0 must have the shape [B,H,N,N] = {[B, H, N, N]}, not {list(s0.shape)}")
        _check_kind("s0", s0, dtype, device)
    if p is not None:
        if p.shape != (B,):
            raise ValueError(f"p must have the shape [B] = {[B]}, not {list(p.shape)}")
        if p.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"p must be int32 or int64, not {p.dtype}")
        if p.device != device:
            raise ValueError(f"p must be on {device} like r, not on {p.device}")
        if device.type == "cpu":  # elsewhere reading it would wait for the device
            counts = p.tolist()
            low, high = min(counts), max(counts)
            if low < 0 or high > T:
                raise ValueError(f"p must lie between 0 and T = {T}, it holds {low if low < 0 else high}")


def _check_kind(name: str, x: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if x.dtype != dtype:
        raise TypeError(f"{name} must be {dtype} like r, not {x.dtype}")
    if x.device != device:
        raise ValueError(f"{name} must be on {device} like r, not on {x.device}")
