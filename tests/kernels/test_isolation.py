"""What may not influence a result by one bit: later tokens, other samples, threads, fresh memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fsearch.kernels import wkv7_fs

from .cases import Case, random_case, upstream

pytestmark = pytest.mark.usefixtures("kernel_library")


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def outputs_and_gradients(case: Case, impl: str = "cpu") -> list[Tensor]:
    case = case.with_grad()
    results = wkv7_fs(*case.tensors, case.p, decay=case.decay, return_final=True, impl=impl)
    outputs = tuple(x for x in results if x is not None)
    gradients = torch.autograd.grad(outputs, case.tensors, upstream(outputs))
    return [*(x.detach() for x in outputs), *gradients]


def assert_same_bits(xs: list[Tensor], ys: list[Tensor]) -> None:
    assert len(xs) == len(ys)
    for x, y in zip(xs, ys, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("N", [8, 32])
def test_one_or_two_threads(N: int, threads: None) -> None:
    """The number of threads changes no bit."""
    case = random_case(5, 70, 3, N)
    torch.set_num_threads(1)
    alone = outputs_and_gradients(case)
    torch.set_num_threads(2)
    assert_same_bits(outputs_and_gradients(case), alone)


@pytest.mark.parametrize("impl", ["cpu", "chunked"])
def test_two_runs(impl: str) -> None:
    """The same call gives the same bits again."""
    case = random_case(3, 50, 2, 8)
    assert_same_bits(outputs_and_gradients(case, impl), outputs_and_gradients(case, impl))


@pytest.mark.parametrize("N", [8, 16])
def test_a_sample_does_not_depend_on_its_batch(N: int) -> None:
    """A batch of five is five batches of one, gradients included."""
    case = random_case(5, 37, 2, N)
    outputs = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
    gradients = upstream(tuple(x for x in outputs if x is not None))

    def run(rows: slice) -> list[Tensor]:
        assert case.p is not None
        part = Case(tuple(x[rows] for x in case.tensors), case.p[rows]).with_grad()
        results = wkv7_fs(*part.tensors, part.p, return_final=True, impl="cpu")
        given = [x for x in results if x is not None]
        return [*given, *torch.autograd.grad(given, part.tensors, [g[rows] for g in gradients])]

    together = run(slice(None))
    for n in range(5):
        assert_same_bits(run(slice(n, n + 1)), [x[n : n + 1] for x in together])


@pytest.mark.parametrize("impl", ["cpu", "chunked"])
def test_poison_after_the_capture(impl: str) -> None:
    """NaN in every token from p on reaches neither the captured state nor an earlier output."""
    clean = random_case(3, 40, 2, 8, p=torch.tensor([5, 16, 39]))
    poisoned = tuple(x.clone() for x in clean.tensors)
    assert clean.p is not None
    for x in poisoned[:6]:
        for n, p in enumerate(clean.p.tolist()):
            x[n, p:] = torch.nan
    y, cap, _ = wkv7_fs(*poisoned, clean.p, impl=impl)
    want_y, want_cap, _ = wkv7_fs(*clean.tensors, clean.p, impl=impl)
    assert cap is not None and want_cap is not None and torch.equal(cap, want_cap)
    for n, p in enumerate(clean.p.tolist()):
        assert torch.equal(y[n, :p], want_y[n, :p])
        assert y[n, p:].isnan().all()


@pytest.mark.parametrize("impl", ["cpu", "chunked"])
def test_poison_in_another_sample(impl: str) -> None:
    """NaN in one sample changes no output and no gradient of the others."""
    clean = random_case(3, 40, 2, 8)
    poisoned = tuple(x.clone() for x in clean.tensors)
    for x in poisoned:
        x[1] = torch.nan
    found = outputs_and_gradients(Case(poisoned, clean.p), impl)
    for x, want in zip(found, outputs_and_gradients(clean, impl), strict=True):
        assert torch.equal(x[[0, 2]], want[[0, 2]])
        assert x[1].isnan().any()


@pytest.mark.parametrize("at", [1, 16, 32, 33])
def test_one_pass_is_two_calls(at: int) -> None:
    """Capturing at p and going on equals a call for the prompt and one for the answer from its state."""
    *six, s0 = random_case(2, 50, 2, 8).tensors
    y, cap, sT = wkv7_fs(*six, s0, torch.full((2,), at), return_final=True, impl="cpu")
    first, _, between = wkv7_fs(*(x[:, :at] for x in six), s0, return_final=True, impl="cpu")
    second, _, last = wkv7_fs(*(x[:, at:] for x in six), between, return_final=True, impl="cpu")
    assert cap is not None and between is not None and sT is not None and last is not None
    assert_same_bits([cap, sT, y], [between, last, torch.cat([first, second], 1)])


@pytest.mark.parametrize("used", ["y", "cap", "sT"])
def test_uninitialised_memory_is_never_read(used: str) -> None:
    """With every fresh tensor filled with NaN, results and gradients stay finite."""
    case = random_case(2, 70, 2, 8).with_grad()
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        assert torch.empty(3).isnan().all()
        y, cap, sT = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
        assert cap is not None and sT is not None
        results = {"y": y, "cap": cap, "sT": sT}
        gradients = torch.autograd.grad(results[used].sum(), case.tensors)
    finally:
        torch.use_deterministic_algorithms(False)
    for x in (*results.values(), *gradients):
        assert x.isfinite().all()
