"""The fused formulas against the plain PyTorch lines that state them, compiled and in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from fsearch.rwkv7.fused import keys, readout, squared_relu, token_shift_mix
from tests.kernels import fused_cases as plain

pytestmark = pytest.mark.usefixtures("backend")

Formula = Callable[..., Sequence[Tensor]]


def random(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(sum(shape) + 100 * seed)
    return torch.randn(shape, generator=source, dtype=torch.float64, requires_grad=True)


CASES: dict[str, tuple[Formula, Formula, list[Tensor]]] = {
    "mix of six": (
        token_shift_mix,
        plain.mixed,
        [random(3, 5, 8), *(random(1, 1, 8, seed=i) for i in range(6))],
    ),
    "mix of one": (token_shift_mix, plain.mixed, [random(2, 1, 16), random(1, 1, 16)]),
    "squared relu": (lambda x: (squared_relu(x),), lambda x: (x.relu().square(),), [random(6, 8)]),
    "keys": (
        lambda *x: keys(*x, 8),
        lambda *x: plain.keys(*x, 8),
        [random(5, 16), random(5, 16, seed=1), random(1, 1, 16), random(1, 1, 16, seed=1)],
    ),
    "readout": (
        lambda *x: (readout(*x, 8e-5),),
        lambda *x: plain.readout(*x, 8, 8e-5),
        [*(random(5, 16, seed=i) for i in range(5)), random(2, 8), random(16, seed=1), random(16, seed=2)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_formula_s(name: str) -> None:
    """Same values, and same gradients of every input for random gradients of every output."""
    ours_of, plain_of, inputs = CASES[name]
    ours, theirs = ours_of(*inputs), plain_of(*inputs)
    upstream = [torch.randn_like(output) for output in theirs]
    torch.testing.assert_close(list(ours), list(theirs))
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream)
    )


def test_the_mix_goes_on_from_a_last_row() -> None:
    """With the input before x's first, rows and gradients are those of one longer sequence."""
    whole, mix = random(2, 7, 8), random(1, 1, 8)
    (rows,) = token_shift_mix(whole[:, 3:], mix, last=whole[:, 2])
    (expected,) = plain.mixed(whole, mix)
    expected = expected.view_as(whole)[:, 3:].flatten(0, 1)
    torch.testing.assert_close(rows, expected)
    upstream = torch.randn_like(rows)
    torch.testing.assert_close(
        torch.autograd.grad(rows, (whole, mix), upstream),
        torch.autograd.grad(expected, (whole, mix), upstream),
    )


@pytest.mark.parametrize("name", ["mix of six", "keys", "readout"])
def test_bf16_beside_float32_parameters(name: str) -> None:
    """Outputs are bfloat16, and near the formula's; a parameter's gradient is float32."""
    ours_of, plain_of, inputs = CASES[name]
    rows = {"mix of six": 1, "keys": 2, "readout": 5}[name]
    given = [x.bfloat16() if i < rows else x.float() for i, x in enumerate(inputs)]
    given = [x.detach().requires_grad_() for x in given]
    exact = [x.detach().double().requires_grad_() for x in given]
    ours, theirs = ours_of(*given), plain_of(*exact)
    upstream = [torch.randn_like(output).bfloat16() for output in theirs]
    gradients = torch.autograd.grad(ours, given, upstream)
    expected = torch.autograd.grad(theirs, exact, [x.double() for x in upstream])
    assert [x.dtype for x in ours] == [torch.bfloat16] * len(ours)
    assert [x.dtype for x in gradients] == [x.dtype for x in given]
    for found, want in zip([*ours, *gradients], [*theirs, *expected], strict=True):
        assert (found.double() - want).norm() < 0.02 * want.norm()


def test_a_zero_key_has_a_finite_gradient() -> None:
    """A key of length zero has no direction; value and gradients stay finite and equal the formula's."""
    k, rate, k_k, k_a = random(2, 8), random(2, 8), random(1, 1, 8), random(1, 1, 8)
    zero = (k * 0).detach().requires_grad_()
    ours = keys(zero, rate, k_k, k_a, 8)
    assert all(torch.isfinite(output).all() for output in ours)
    upstream = [torch.ones_like(output) for output in ours]
    torch.testing.assert_close(
        torch.autograd.grad(ours, zero, upstream)[0],
        torch.autograd.grad(plain.keys(zero, rate, k_k, k_a, 8), zero, upstream)[0],
    )
