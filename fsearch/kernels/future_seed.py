"""Future-Seed preparation: from the state that one layer leaves to the state that the next one starts from.

Arguments are checked here, in words; where there is no compiled operator, plain PyTorch computes the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import library
from .compiled import future_seed_compiled
from .operator import HEAD_SIZES

_RMS_FLOOR = 1e-6  # as in csrc/future_seed.h
_DTYPES = (torch.float32, torch.float64)


def future_seed(captured: Tensor, gate: Tensor, *, norm: bool, clip: float | None) -> Tensor:
    """Normalise a state, weigh it by its gate, clip it: in this order, each matrix for itself.

    With C one of the B*H matrices and m its gate,

        C = C / max(sqrt(mean(C^2)), 1e-6)    if `norm`
        seed = clamp(m C, -clip, clip)        if `clip` is not None, else m C

    Args:
        captured: [B,H,N,N], float32 or float64, any strides; N in 8, 16, 32, 64, 128.
        gate: of the same dtype and device, a shape that broadcasts to [B,H].
        norm: whether to divide by the root of the mean square.
        clip: a positive limit, or None for none.

    Returns:
        The seed [B,H,N,N]. It is differentiable with respect to `captured` and `gate`: once, in the fallback
        twice. As in torch.clamp, the gradient passes at the limit itself.

    Raises:
        ValueError: a shape, device or limit is wrong. TypeError: a dtype is wrong.
    """
    _check(captured, gate, clip)
    gates = gate.expand(captured.shape[:2])
    if not library.runs_compiled(captured.device, captured.dtype):
        return _portable(captured, gates, norm, clip)
    return future_seed_compiled(captured, gates, norm, clip)


def _portable(captured: Tensor, gates: Tensor, norm: bool, clip: float | None) -> Tensor:
    z = captured
    if norm:
        # The floor is put under the square: the root of an empty state would have a gradient of 0 / 0.
        z = z / z.square().mean(dim=(-2, -1), keepdim=True).clamp_min(_RMS_FLOOR**2).sqrt()
    z = z * gates[:, :, None, None]
    return z if clip is None else z.clamp(-clip, clip)


def _check(captured: Tensor, gate: Tensor, clip: float | None) -> None:
    if captured.dtype not in _DTYPES:
        raise TypeError(f"captured must be float32 or float64, not {captured.dtype}")
    shape = list(captured.shape)
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"captured must have the shape [B,H,N,N], not {shape}")
    B, H, N, _ = shape
    if B < 1 or H < 1:
        raise ValueError(f"captured must have at least one sample and head, not the shape {shape}")
    if N not in HEAD_SIZES:
        raise ValueError(f"captured must have a head size N among {HEAD_SIZES}, not {N}")
    fits = all(n in (1, most) for n, most in zip(reversed(gate.shape), (H, B), strict=False))
    if gate.dim() > 2 or not fits:
        raise ValueError(f"gate must broadcast to [B,H] = {[B, H]}; its shape is {list(gate.shape)}")
    if gate.dtype != captured.dtype:
        raise TypeError(f"gate must be {captured.dtype} like captured, not {gate.dtype}")
    if gate.device != captured.device:
        raise ValueError(f"gate must be on {captured.device} like captured, not on {gate.device}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive, or None for no clipping, not {clip}")
