"""Three formulas of RWKV-7 with their gradients written out.

Left to autograd, these three run through memory several times as often, and that is what a step waits for.
Each function states its formula in plain PyTorch, and the tests hold value and gradient to it. Gradients of
gradients are not provided.

Shapes: B samples, T tokens, C channels = H heads of N, M = B*T rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

NORM_FLOOR = 1e-12


def token_shift_mix(x: Tensor, *mixes: Tensor, last: Tensor | None = None) -> tuple[Tensor, ...]:
    """x [B, T, C] mixed with its predecessor in the proportion of each mix [1, 1, C]; rows [M, C] for each.

    lerp(x, previous, mix).flatten(0, 1), `previous` being x one token later, with `last` [B, C] before the
    first, or zeros.
    """
    if last is not None:
        x = torch.cat((last[:, None], x), 1)
    mixed: tuple[Tensor, ...] = _TokenShiftMix.apply(x, *mixes)  # type: ignore[no-untyped-call]
    if last is not None:
        mixed = tuple(rows.view_as(x)[:, 1:].flatten(0, 1) for rows in mixed)
    return mixed


def squared_relu(x: Tensor) -> Tensor:
    """relu(x).square(), any shape."""
    y: Tensor = _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return y


def keys(k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor, head_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The keys by which a state forgets, relearns and learns, from key and in-context rate; all [M, C].

    With kk = normalize(k * k_k) in each head: -kk, kk * rate and k * (1 + (rate - 1) * k_a). k_k and k_a
    are [1, 1, C].
    """
    forget_relearn_learn: tuple[Tensor, Tensor, Tensor]
    forget_relearn_learn = _Keys.apply(k, rate, k_k, k_a, head_size)  # type: ignore[no-untyped-call]
    return forget_relearn_learn


class _TokenShiftMix(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *mixes: Tensor) -> tuple[Tensor, ...]:
        shift = F.pad(x, (0, 0, 1, -1)) - x
        ctx.save_for_backward(shift, *mixes)
        return torch.addcmul(x, shift, torch.stack(mixes)).flatten(1, 2).unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        shift, *mixes = ctx.saved_tensors
        d_x, d_previous = torch.zeros_like(shift), torch.zeros_like(shift)
        d_mixes = []
        for mix, rows in zip(mixes, grads, strict=True):
            grad = rows.view_as(shift)
            d_x += grad
            d_previous.addcmul_(grad, mix)
            d_mixes.append((grad * shift).sum((0, 1), keepdim=True))
        d_x -= d_previous
        d_x[:, :-1] += d_previous[:, 1:]
        return d_x, *d_mixes


class _SquaredReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        d_x: Tensor = (grad * positive).mul_(2)
        return d_x


class _Keys(Function):
    @staticmethod
    def forward(
        ctx: Any, k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor, head_size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        k_k, k_a = k_k.flatten(), k_a.flatten()
        kk = (k * k_k).view(len(k), -1, head_size)
        norm = torch.linalg.vector_norm(kk, dim=-1, keepdim=True).clamp_min_(NORM_FLOOR)
        kk = (kk / norm).view_as(k)
        ctx.save_for_backward(k, rate, k_k, k_a, kk, norm)
        return -kk, kk * rate, k * torch.addcmul(1 - k_a, rate, k_a)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_forget: Tensor, d_relearn: Tensor, d_learn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        k, rate, k_k, k_a, kk, norm = ctx.saved_tensors
        d_learn_k = d_learn * k
        d_rate = torch.addcmul(d_learn_k * k_a, d_relearn, kk)
        d_k_a = (d_learn_k * (rate - 1)).sum(0)

        d_kk = torch.addcmul(-d_forget, d_relearn, rate).view(*norm.shape[:2], -1)
        kk = kk.view_as(d_kk)
        along = (d_kk * kk).sum(-1, keepdim=True)  # a change along kk does not survive its normalisation
        d_scaled = (torch.addcmul(d_kk, kk, along, value=-1) / norm).view_as(k)
        d_k_k = (d_scaled * k).sum(0)
        d_k = torch.addcmul(d_scaled * k_k, d_learn, torch.addcmul(1 - k_a, rate, k_a))
        return d_k, d_rate, d_k_k.view(1, 1, -1), d_k_a.view(1, 1, -1), None
