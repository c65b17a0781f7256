"""Kernels as others bring them for `fsearch bench kernel --peer`, in plain torch: right, wrong, broken."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def loop(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, s0: Tensor, final: bool
) -> tuple[Tensor, Tensor | None]:
    """The recurrence token by token."""
    assert all(x.is_contiguous() for x in (r, w, k, v, a, b))
    decay, state, ys = torch.exp(-math.exp(-0.5) * torch.sigmoid(w)), s0, []
    for t in range(r.shape[1]):
        u = state @ a[:, t, :, :, None]
        state = state * decay[:, t, :, None] + u * b[:, t, :, None] + v[:, t, :, :, None] * k[:, t, :, None]
        ys.append((state @ r[:, t, :, :, None]).squeeze(-1))
    return torch.stack(ys, 1), state if final else None


def forgetful(*arguments: Tensor) -> tuple[Tensor, Tensor | None]:
    """Without the state that it was given: every call begins at zero."""
    *tensors, s0, final = arguments
    return loop(*tensors, 0 * s0, final)


def broken(*arguments: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a kernel does that wants another shape."""
    raise RuntimeError("T must be a multiple of 16")
