"""The compiled backward pass by finite differences, and how it behaves inside autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fsearch.kernels import wkv7_fs

from .cases import NAMES, random_case, upstream

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


@pytest.mark.parametrize("wanted", [("r",), ("w",), ("k", "v"), ("a",), ("b", "s0"), ("s0",)])
def test_gradients_of_a_subset(wanted: tuple[str, ...]) -> None:
    """Asking for fewer gradients changes none of them, and leaves the others absent."""
    case = random_case(2, 37, 1, 8)

    def gradients(names: tuple[str, ...]) -> dict[str, Tensor | None]:
        given = [x.clone().requires_grad_(n in names) for n, x in zip(NAMES, case.tensors, strict=True)]
        y, cap, sT = wkv7_fs(*given, case.p, return_final=True, impl="cpu")
        assert cap is not None and sT is not None
        torch.autograd.backward((y, cap, sT), upstream((y, cap, sT)))
        return {name: x.grad for name, x in zip(NAMES, given, strict=True)}

    every, some = gradients(NAMES), gradients(wanted)
    for name in NAMES:
        x, want = some[name], every[name]
        assert want is not None
        assert (x is None) if name not in wanted else (x is not None and torch.equal(x, want))


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fake_kernels_tell_the_shapes(dtype: torch.dtype) -> None:
    """What the fake kernels say about shapes and dtypes is what the real ones return."""
    case = random_case(2, 70, 1, 8).to(dtype)
    if dtype == torch.bfloat16:
        case = replace(case, tensors=(case.tensors[0], case.tensors[1].float(), *case.tensors[2:]))
    ops = torch.ops.fsearch
    checks = ("test_schema", "test_faketensor")
    for p, s0, final in ((case.p, case.tensors[6], True), (None, None, False)):
        arguments = (*case.tensors[:6], s0, p, True, final, True)
        torch.library.opcheck(ops.wkv7_forward.default, arguments, test_utils=checks)
        y, cap, sT, checkpoints = ops.wkv7_forward(*arguments)
        given = (y, cap if p is not None else None, sT if final else None)
        arguments = (*given, *case.tensors[:6], s0, p, checkpoints, True, s0 is not None)
        torch.library.opcheck(ops.wkv7_backward.default, arguments, test_utils=checks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_compile(dtype: torch.dtype) -> None:
    """torch.compile takes the operator whole, forward and backward, and changes no bit."""
    case = random_case(2, 40, 1, 8).to(dtype).with_grad()

    def function(*xs: Tensor) -> Tensor:
        y, cap, sT = wkv7_fs(*xs, case.p, return_final=True, impl="cpu")
        assert cap is not None and sT is not None
        return y.float().square().sum() + cap.sum() + sT.square().sum()

    torch.compiler.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    results = []
    for run in (function, compiled):
        loss = run(*case.tensors)
        results.append((loss, *torch.autograd.grad(loss, case.tensors)))
    for x, want in zip(results[1], results[0], strict=True):
        assert torch.equal(x, want)


@pytest.mark.parametrize("impl", ["cpu", "chunked"])
def test_fake_tensors(impl: str) -> None:
    """Without any data the operator tells the shapes and dtypes of its outputs and gradients."""
    case = random_case(2, 40, 1, 8).to(torch.bfloat16)
    with FakeTensorMode() as mode:
        assert case.p is not None
        fake = [mode.from_tensor(x).requires_grad_() for x in case.tensors]
        y, cap, sT = wkv7_fs(*fake, mode.from_tensor(case.p), return_final=True, impl=impl)
        assert cap is not None and sT is not None
        gradients = torch.autograd.grad([y, cap, sT], fake, [y, cap, sT])
    assert (y.shape, y.dtype) == ((2, 40, 1, 8), torch.bfloat16)
    assert {(x.shape, x.dtype) for x in (cap, sT)} == {((2, 1, 8, 8), torch.float32)}
    assert [(x.shape, x.dtype) for x in gradients] == [(x.shape, x.dtype) for x in case.tensors]
