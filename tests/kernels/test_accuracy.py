"""Outputs and gradients of every implementation against the token-by-token reference in float64."""

from __future__ import annotations

import pytest
import torch

from fsearch.kernels import HEAD_SIZES, wkv7_fs

from .cases import NAMES, TOLERANCE, Case, random_case, relative_error, upstream
from .reference import reference

pytestmark = pytest.mark.usefixtures("kernel_library")

IMPLS = ("cpu", "chunked")


def errors_of(case: Case, impl: str) -> dict[str, float]:
    """Relative error of each output and each gradient; all three outputs have upstream gradients."""
    ours, theirs = case.with_grad(), case.to(torch.float64).with_grad()
    outputs = wkv7_fs(*ours.tensors, ours.p, decay=case.decay, return_final=True, impl=impl)
    expected = reference(*theirs.tensors, theirs.p, case.decay)
    found = {}
    for name, x, want in zip(("y", "cap", "sT"), outputs, expected, strict=True):
        assert (x is None) == (want is None)
        if x is not None and want is not None:
            found[name] = relative_error(x, want)
    given, wanted = ([x for x in side if x is not None] for side in (outputs, expected))
    torch.autograd.backward(given, upstream(tuple(given)))
    torch.autograd.backward(wanted, upstream(tuple(wanted)))
    for name, x, want in zip(NAMES, ours.tensors, theirs.tensors, strict=True):
        assert x.grad is not None and want.grad is not None
        found[name] = relative_error(x.grad, want.grad)
    return found


def assert_within(found: dict[str, float], tolerance: dict[str, float]) -> None:
    beyond = {name: error for name, error in found.items() if not error <= tolerance[name]}
    assert not beyond


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("decay", ["sigmoid", "exp"])
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 257])
def test_lengths_around_chunks_and_checkpoints(T: int, decay: str, impl: str) -> None:
    """Any length is exact, with a different random capture in every sample."""
    x = (-6.0, 3.0) if decay == "sigmoid" else (-6.0, -0.5)
    assert_within(errors_of(random_case(3, T, 2, 8, seed=T, decay=decay, x=x), impl), TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("N", HEAD_SIZES)
def test_head_sizes(N: int, impl: str) -> None:
    """Every head size is exact, across a border between checkpoints."""
    assert_within(errors_of(random_case(2, 35, 1, N), impl), TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
def test_captures_at_the_ends_and_around_borders(impl: str) -> None:
    """The capture is the state after exactly p tokens: none, one, all, and one off each border."""
    p = torch.tensor([0, 1, 15, 16, 17, 31, 32, 33, 47, 48])
    assert_within(errors_of(random_case(len(p), 48, 1, 8, p=p), impl), TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
def test_no_capture(impl: str) -> None:
    """Without p nothing is captured and the rest is unchanged."""
    case = random_case(2, 40, 2, 16)
    assert_within(errors_of(Case(case.tensors, None), impl), TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
def test_no_initial_state(impl: str) -> None:
    """No initial state means zeros, also for a capture before the first token."""
    case = random_case(2, 20, 1, 8, p=torch.tensor([0, 7]))
    *six, s0 = case.tensors
    without = wkv7_fs(*six, None, case.p, return_final=True, impl=impl)
    zeros = wkv7_fs(*six, torch.zeros_like(s0), case.p, return_final=True, impl=impl)
    for x, want in zip(without, zeros, strict=True):
        assert x is not None and want is not None and torch.equal(x, want)


EXTREMES = [("sigmoid", (-20, -20)), ("sigmoid", (8, 8)), ("exp", (1, 2)), ("exp", (2, 4)), ("exp", (80, 80))]


@pytest.mark.parametrize(
    ("decay", "x"), [*EXTREMES, ("sigmoid", (-200, 200)), ("exp", (200, 200)), ("exp", (-80, -80))]
)
def test_extreme_decays(decay: str, x: tuple[float, float]) -> None:
    """From a decay of 1 to a decay of 0, and beyond where exp overflows."""
    case = random_case(2, 70, 1, 16, decay=decay, x=x)
    assert_within(errors_of(case, "cpu"), TOLERANCE)


@pytest.mark.parametrize(("decay", "x"), EXTREMES)
def test_extreme_decays_of_the_fallback(decay: str, x: tuple[float, float]) -> None:
    """The fallback too, save that the gradient of a vanishing decay is lost among larger terms."""
    case = random_case(2, 70, 1, 16, decay=decay, x=x)
    found = errors_of(case, "chunked")
    if decay == "exp":
        del found["w"]
    assert_within(found, TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
def test_identical_tokens(impl: str) -> None:
    """256 identical tokens, where a rounded triangular inverse would blow up.

    The same token makes the same rounding error each time, which adds up: a plain loop in float32 is off by
    2.4e-6 here as well, hence 4e-6 instead of 2e-6.
    """
    case = random_case(1, 256, 1, 16)
    same = [x[:, :1].expand_as(x) for x in case.tensors[:6]]
    same[5] = -same[4]  # the gate is 1: each token erases what its key held
    found = errors_of(Case((*same, case.tensors[6]), case.p), impl)
    assert_within(found, {name: max(limit, 4e-6) for name, limit in TOLERANCE.items()})


@pytest.mark.parametrize("impl", IMPLS)
def test_large_initial_state(impl: str) -> None:
    """A state ten thousand times the usual one loses no relative precision."""
    *six, s0 = random_case(2, 33, 1, 16).tensors
    assert_within(errors_of(Case((*six, s0 * 1e4), torch.tensor([3, 33])), impl), TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
def test_strided_and_expanded_inputs(impl: str) -> None:
    """Strides do not matter: a transposed tensor and an expanded one give what their copies give."""
    case = random_case(2, 9, 3, 8)
    r, w, k, v, a, b, s0 = case.tensors
    strided = r.transpose(1, 2).contiguous().transpose(1, 2)
    expanded = k[:, :1].expand_as(k)
    assert not strided.is_contiguous() and not expanded.is_contiguous()
    p = torch.tensor([[3, 0], [9, 0]], dtype=torch.int32)[:, 0]
    got = wkv7_fs(strided, w, expanded, v, a, b, s0.mT, p, impl=impl)
    want = wkv7_fs(r, w, expanded.clone(), v, a, b, s0.mT.contiguous(), p.long(), impl=impl)
    assert torch.equal(got[0], want[0])
    assert got[1] is not None and want[1] is not None and torch.equal(got[1], want[1])


def test_fallback_equals_the_kernel_in_double_precision() -> None:
    """Two independent derivations agree far below single precision, long and wide."""
    case = random_case(2, 130, 2, 32, dtype=torch.float64)
    ours = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
    theirs = wkv7_fs(*case.tensors, case.p, return_final=True, impl="chunked")
    for x, want in zip(ours, theirs, strict=True):
        assert x is not None and want is not None and relative_error(x, want) < 1e-14
