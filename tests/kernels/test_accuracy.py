"""Outputs and gradients of every implementation against the token-by-token reference in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from fsearch.kernels import HEAD_SIZES, wkv7_fs

from .cases import BF16_TOLERANCE, NAMES, TOLERANCE, Case, random_case, relative_error, upstream
from .errors import assert_within, relative_errors
from .reference import reference

pytestmark = pytest.mark.usefixtures("kernel_library")

IMPLS = ("cpu", "chunked")


def errors_of(case: Case, impl: str) -> dict[str, float]:
    """Relative errors of one of our implementations."""
    return relative_errors(case, partial(wkv7_fs, decay=case.decay, return_final=True, impl=impl))


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


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("impl", IMPLS)
def test_identical_tokens(impl: str, seed: int) -> None:
    """256 identical tokens, where a rounded triangular inverse would blow up.

    The same token makes the same rounding error each time, which adds up in any state that is kept in
    float32 and rounded at each token: where a plain float32 loop is beyond the tolerance, the kernel may be
    as far beyond it. The chunked form rounds its state 16 times less often and has no such excuse.
    """
    case = random_case(1, 256, 1, 16, seed=seed)
    same = [x[:, :1].expand_as(x) for x in case.tensors[:6]]
    same[5] = -same[4]  # the gate is 1: each token erases what its key held
    case = Case((*same, case.tensors[6]), case.p)
    limits = TOLERANCE
    if impl == "cpu":
        loop = relative_errors(case, partial(reference, decay=case.decay, dtype=torch.float32))
        limits = {name: max(limit, 1.25 * loop[name]) for name, limit in TOLERANCE.items()}
    assert_within(errors_of(case, impl), limits)


@pytest.mark.parametrize("impl", IMPLS)
def test_one_hot_keys(impl: str) -> None:
    """Keys that each own one column of the state: what is read is exactly what was last written there."""
    T, N = 40, 16
    case = random_case(1, T, 1, N, x=(-20.0, -20.0), p=torch.tensor([T]))
    r, w, _, v, _, _, _ = case.tensors
    key = torch.eye(N)[torch.arange(T) % N].view(1, T, 1, N)
    y, cap, _ = wkv7_fs(key, w, key, v, -key, key, None, case.p, impl=impl)
    assert cap is not None
    assert relative_error(y, v) < 2e-6  # the gate is 1: the old value goes, the new one comes
    assert relative_error(cap[0, 0], v[0, [i + 32 if i < 8 else i + 16 for i in range(N)], 0].T) < 2e-6
    assert_within(
        errors_of(replace(case, tensors=(r, w, key, v, -key, key, case.tensors[6])), impl), TOLERANCE
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("zero", [("r",), ("k",), ("v",), ("r", "k", "v"), ("a",), ("b",), ("s0",)])
def test_zero_inputs(zero: tuple[str, ...], impl: str) -> None:
    """A tensor of zeros leaves the other results right and those it silences exactly zero."""
    case = random_case(2, 37, 1, 8)
    tensors = [
        torch.zeros_like(x) if name in zero else x for name, x in zip(NAMES, case.tensors, strict=True)
    ]
    assert_within(errors_of(replace(case, tensors=tuple(tensors)), impl), TOLERANCE)


@pytest.mark.parametrize("impl", IMPLS)
def test_more_heads_than_a_grid_dimension_holds(impl: str) -> None:
    """65536 heads and more, each one right: the last is what a batch of its own gives."""
    case = random_case(8193, 2, 8, 8)
    y, cap, _ = wkv7_fs(*case.tensors, case.p, impl=impl)
    assert case.p is not None and cap is not None
    assert len(y) * y.shape[2] > 65535
    alone_y, alone_cap, _ = wkv7_fs(*(x[-3:] for x in case.tensors), case.p[-3:], impl=impl)
    assert alone_cap is not None
    assert relative_error(y[-3:], alone_y) < 1e-6 and relative_error(cap[-3:], alone_cap) < 1e-6


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("decay_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("N", [8, 64])
def test_bf16(N: int, decay_dtype: torch.dtype, impl: str) -> None:
    """bfloat16 tensors are computed in float32 and rounded once; w may keep float32, as its gradient does."""
    case = random_case(2, 70, 2, N)
    six, s0 = case.to(torch.bfloat16).tensors[:6], case.tensors[6]
    six = (six[0], case.tensors[1].to(decay_dtype), *six[2:])
    case = replace(case, tensors=(*six, s0)).with_grad()
    y, cap, sT = wkv7_fs(*case.tensors, case.p, return_final=True, impl=impl)
    assert cap is not None and sT is not None
    assert (y.dtype, cap.dtype, sT.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    gradients = torch.autograd.grad([y, cap, sT], case.tensors, upstream((y, cap, sT)))
    assert [x.dtype for x in gradients] == [x.dtype for x in case.tensors]
    assert_within(errors_of(case, impl), BF16_TOLERANCE)


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
