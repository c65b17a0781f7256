"""Formulas of RWKV-7 that are more than one operator of torch each, in as few passes over memory as can be.

Left to autograd, they run through memory several times as often, and that is what a step waits for. Where
the compiled library runs, each is one operator of it, forwards and backwards (csrc/fused.h); elsewhere most
gradients are written out here. Each function states its formula in plain PyTorch, and the tests hold value
and gradient to it. Gradients of gradients are not provided.

Activations have a precision, parameters the same or a higher one. A parameter is cast where it meets an
activation, but for the normalisation of keys and heads; values are rounded as a chain in torch rounds them,
with the compiled operators too, which round gradients once.

Shapes: B samples, T tokens, C channels = H heads of N, M = B*T rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from fsearch.kernels.compiled import (
    keys_compiled,
    readout_compiled,
    shift_mix_compiled,
    squared_relu_compiled,
)
from fsearch.kernels.library import runs_compiled

NORM_FLOOR = 1e-12


def token_shift_mix(x: Tensor, *mixes: Tensor, last: Tensor | None = None) -> Sequence[Tensor]:
    """x [B, T, C] mixed with its predecessor in the proportion of each mix [1, 1, C]; rows [M, C] for each.

    lerp(x, previous, mix).flatten(0, 1), `previous` being x one token later, with `last` [B, C] before the
    first, or zeros.
    """
    if last is not None:
        x = torch.cat((last[:, None], x), 1)
    mixed: Sequence[Tensor]
    if runs_compiled(x.device, x.dtype):
        mixed = shift_mix_compiled(x, mixes)
    else:
        low = (mix.to(x.dtype) for mix in mixes)
        mixed = _TokenShiftMix.apply(x, *low)  # type: ignore[no-untyped-call]
    if last is not None:
        mixed = [rows.view_as(x)[:, 1:].flatten(0, 1) for rows in mixed]
    return mixed


def squared_relu(x: Tensor) -> Tensor:
    """relu(x).square(), of rows [M, C]."""
    if runs_compiled(x.device, x.dtype):
        return squared_relu_compiled(x)
    y: Tensor = _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return y


def keys(k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor, head_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The keys by which a state forgets, relearns and learns, from key and in-context rate; all [M, C].

    With kk = normalize(k * k_k) in each head: -kk, kk * rate and k * (1 + (rate - 1) * k_a). k_k and k_a
    are [1, 1, C].
    """
    if runs_compiled(k.device, k.dtype):
        return keys_compiled(k, rate, k_k, k_a, head_size)
    full = k_k.dtype
    three = _Keys.apply(k.to(full), rate.to(full), k_k, k_a, head_size)  # type: ignore[no-untyped-call]
    forget, relearn, learn = (key.to(k.dtype) for key in three)
    return forget, relearn, learn


def readout(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    r_k: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> Tensor:
    """What the heads give to the output matrix, from what was read of their states; all [M, C].

    (norm(y) * weight + bias + bonus * v) * gate: in each head `norm` takes mean and deviation away, and
    bonus = sum(r * k * r_k). r_k is [H, N]; weight and bias are [C].
    """
    if runs_compiled(y.device, y.dtype):
        return readout_compiled(y, r, k, v, gate, r_k, weight, bias, r_k.shape[1], eps)
    heads, low, full = (-1, *r_k.shape), y.dtype, weight.dtype
    # Group norm is layer norm in each head, then one affine map; torch's own is slow for few channels.
    normed = F.layer_norm(y.to(full).view(heads), heads[2:], eps=eps).view_as(y)
    normed = torch.addcmul(bias, normed, weight).to(low)
    bonus = (r * k * r_k.to(low).view(-1)).view(heads).sum(-1, keepdim=True) * v.view(heads)
    return (normed + bonus.view_as(v)) * gate


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
        along.masked_fill_(norm == NORM_FLOOR, 0)  # but it does survive the division by the floor
        d_scaled = (torch.addcmul(d_kk, kk, along, value=-1) / norm).view_as(k)
        d_k_k = (d_scaled * k).sum(0)
        d_k = torch.addcmul(d_scaled * k_k, d_learn, torch.addcmul(1 - k_a, rate, k_a))
        return d_k, d_rate, d_k_k.view(1, 1, -1), d_k_a.view(1, 1, -1), None
