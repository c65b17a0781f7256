"""The formulas with hand-written gradients against the plain PyTorch lines that state them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fsearch.rwkv7.fused import keys, squared_relu, token_shift_mix

Formula = Callable[..., tuple[Tensor, ...]]


def random(*shape: int) -> Tensor:
    source = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=source, dtype=torch.float64, requires_grad=True)


def plain_mix(x: Tensor, *mixes: Tensor) -> tuple[Tensor, ...]:
    previous = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1)
    return tuple(torch.lerp(x, previous, mix).flatten(0, 1) for mix in mixes)


def plain_keys(k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor) -> tuple[Tensor, ...]:
    kk = F.normalize((k * k_k[0]).view(len(k), -1, 8), dim=-1).view_as(k)
    return -kk, kk * rate, k * (1 + (rate - 1) * k_a[0])


CASES: dict[str, tuple[Formula, Formula, list[Tensor]]] = {
    "mix of six": (token_shift_mix, plain_mix, [random(3, 5, 4), *(random(1, 1, 4) for _ in range(6))]),
    "mix of one": (token_shift_mix, plain_mix, [random(2, 1, 4), random(1, 1, 4)]),
    "squared relu": (lambda x: (squared_relu(x),), lambda x: (x.relu().square(),), [random(6, 7)]),
    "keys": (
        lambda *x: keys(*x, 8),
        plain_keys,
        [random(5, 16), random(5, 16), random(1, 1, 16), random(1, 1, 16)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_formula_s(name: str) -> None:
    """Same values, and same gradients of every input for random gradients of every output."""
    fused, plain, inputs = CASES[name]
    ours, theirs = fused(*inputs), plain(*inputs)
    upstream = [torch.randn_like(output) for output in theirs]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream)
    )


def test_a_zero_key_has_a_finite_gradient() -> None:
    """A key of length zero has no direction; value and gradients stay finite and equal the formula's."""
    k, rate, k_k, k_a = random(2, 8), random(2, 8), random(1, 1, 8), random(1, 1, 8)
    zero = (k * 0).detach().requires_grad_()
    ours = keys(zero, rate, k_k, k_a, 8)
    assert all(torch.isfinite(output).all() for output in ours)
    upstream = [torch.ones_like(output) for output in ours]
    torch.testing.assert_close(
        torch.autograd.grad(ours, zero, upstream)[0],
        torch.autograd.grad(plain_keys(zero, rate, k_k, k_a), zero, upstream)[0],
    )
