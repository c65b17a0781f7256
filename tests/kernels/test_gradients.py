"""The compiled backward pass by finite differences, and how it behaves inside autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fsearch.kernels import wkv7_fs

from .cases import random_case

pytestmark = pytest.mark.usefixtures("kernel_library")


ALL = ("y", "cap", "sT")


@pytest.mark.parametrize("with_s0", [True, False])
@pytest.mark.parametrize(
    ("outputs", "decay"),
    [(("y",), "sigmoid"), (("cap",), "sigmoid"), (("sT",), "sigmoid"), (ALL, "sigmoid"), (ALL, "exp")],
)
def test_gradcheck(outputs: tuple[str, ...], decay: str, with_s0: bool) -> None:
    """Each output's gradient, alone and together, is the finite difference of the real kernel in double."""
    case = random_case(2, 5, 1, 16, decay=decay, x=(-3, 1), p=torch.tensor([0, 3]), dtype=torch.float64)
    inputs = case.with_grad().tensors[: 7 if with_s0 else 6]

    def function(*xs: Tensor) -> tuple[Tensor, ...]:
        s0 = xs[6] if with_s0 else None
        y, cap, sT = wkv7_fs(*xs[:6], s0, case.p, decay=decay, return_final="sT" in outputs, impl="cpu")
        named = {"y": y, "cap": cap, "sT": sT}
        return tuple(x for x in map(named.get, outputs) if x is not None)

    assert torch.autograd.gradcheck(function, inputs)


def test_gradcheck_across_a_checkpoint() -> None:
    """The replay from a saved state gives the same gradients, the capture lying in the replayed part."""
    case = random_case(1, 35, 1, 8, p=torch.tensor([33]), dtype=torch.float64)
    inputs = case.with_grad().tensors
    assert torch.autograd.gradcheck(
        lambda *xs: wkv7_fs(*xs, case.p, return_final=True, impl="cpu"), inputs, fast_mode=True
    )


def test_only_what_is_needed_gets_a_gradient() -> None:
    """Inputs without requires_grad get none, and those with it get the same as among all of them."""
    everything = random_case(2, 12, 1, 8).with_grad()
    y, cap, _ = wkv7_fs(*everything.tensors, everything.p, impl="cpu")
    assert cap is not None
    (y.sum() + cap.sum()).backward()
    some = random_case(2, 12, 1, 8)
    r, w, k, v, a, b, s0 = some.tensors
    y, cap, _ = wkv7_fs(r, w, k.requires_grad_(), v, a, b, s0, some.p, impl="cpu")
    assert cap is not None
    (y.sum() + cap.sum()).backward()
    assert all(x.grad is None for x in (r, w, v, a, b, s0))
    assert k.grad is not None and everything.tensors[2].grad is not None
    assert torch.equal(k.grad, everything.tensors[2].grad)


def test_without_gradients_nothing_is_recorded() -> None:
    """Under no_grad the outputs do not require gradients, and are the same bits."""
    case = random_case(2, 40, 1, 8).with_grad()
    y, cap, sT = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
    with torch.no_grad():
        plain = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
    for x, want in zip(plain, (y, cap, sT), strict=True):
        assert x is not None and want is not None
        assert not x.requires_grad and want.requires_grad and torch.equal(x, want)


def test_second_derivative_is_refused() -> None:
    """Differentiating twice says so instead of silently giving zeros."""
    case = random_case(1, 4, 1, 8).with_grad()
    y, _, _ = wkv7_fs(*case.tensors, impl="cpu")
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(y.sum(), case.tensors, create_graph=True)


def test_fake_kernels_tell_the_shapes() -> None:
    """What the fake kernels say about shapes and dtypes is what the real ones return."""
    case = random_case(2, 70, 1, 8)
    ops = torch.ops.fsearch
    checks = ("test_schema", "test_faketensor")
    for p, s0, final in ((case.p, case.tensors[6], True), (None, None, False)):
        arguments = (*case.tensors[:6], s0, p, True, final, True)
        torch.library.opcheck(ops.wkv7_forward.default, arguments, test_utils=checks)
        y, cap, sT, checkpoints = ops.wkv7_forward(*arguments)
        given = (y, cap if p is not None else None, sT if final else None)
        arguments = (*given, *case.tensors[:6], s0, p, checkpoints, True, s0 is not None)
        torch.library.opcheck(ops.wkv7_backward.default, arguments, test_utils=checks)
