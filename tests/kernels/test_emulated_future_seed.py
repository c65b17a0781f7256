"""The CUDA kernels of the Future-Seed preparation, run and watched by the emulation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fsearch.kernels import HEAD_SIZES

from .cases import relative_error
from .emulation.future_seed import FutureSeed
from .emulation.library import Library, compile_kernels, kernel_source
from .emulation.wkv7 import KernelFault
from .test_future_seed import SWITCHES, around_one, random, reference

SOURCE = kernel_source("future_seed.cu")


@pytest.fixture(scope="module")
def library() -> Library:
    """The kernels as they are."""
    return compile_kernels(SOURCE, "future_seed.cu")


@pytest.fixture
def kernels(library: Library) -> FutureSeed:
    """The operator of `library`, threads in ascending order."""
    library.schedule(0)
    return FutureSeed(library)


def arguments(N: int) -> tuple[Tensor, Tensor, Tensor]:
    """Captured states, gates, and gradients of the seed."""
    return random(2, 3, N, N), random(2, 3, seed=1), random(2, 3, N, N, seed=9)


def assert_exact(
    kernels: FutureSeed, captured: Tensor, gate: Tensor, dseed: Tensor, norm: bool, clip: float | None
) -> None:
    """Seed and gradients are those of autograd through the formula in float64."""
    C, m = (x.double().requires_grad_() for x in (captured, gate))
    expected = reference(C, m, norm, clip)
    wanted = [expected, *torch.autograd.grad(expected, (C, m), dseed.double())]
    found = [
        kernels.forward(captured, gate, norm, clip),
        *kernels.backward(dseed, captured, gate, norm, clip),
    ]
    for x, want in zip(found, wanted, strict=True):
        assert x is not None and relative_error(x, want) < 1e-6


def bits(xs: list[Tensor | None]) -> list[Tensor]:
    return [x.view(torch.int32) for x in xs if x is not None]


@pytest.mark.parametrize(("norm", "clip"), SWITCHES)
@pytest.mark.parametrize("N", HEAD_SIZES)
def test_value_and_gradients(kernels: FutureSeed, N: int, norm: bool, clip: float | None) -> None:
    """Every head size with every switch."""
    assert_exact(kernels, *arguments(N), norm, clip)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e15])
def test_sizes_above_the_floor(kernels: FutureSeed, scale: float) -> None:
    """A state of any size above the floor, and be it a little, is normalised."""
    _, gate, dseed = arguments(16)
    assert_exact(kernels, scale * around_one(2, 3, 16, 16), gate, dseed, True, 0.3)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("N", [8, 32])
def test_only_what_is_needed_is_written(kernels: FutureSeed, N: int, norm: bool) -> None:
    """A gradient that is not needed has no memory, and the other one keeps its bits."""
    captured, gate, dseed = arguments(N)
    both = kernels.backward(dseed, captured, gate, norm, 0.8)
    only_captured, no_gate = kernels.backward(dseed, captured, gate, norm, 0.8, (True, False))
    no_captured, only_gate = kernels.backward(dseed, captured, gate, norm, 0.8, (False, True))
    assert no_gate is None and no_captured is None
    assert all(map(torch.equal, bits(both), bits([only_captured, only_gate])))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-9, 9e-7])
def test_floor_of_the_rms(kernels: FutureSeed, scale: float) -> None:
    """A state below the floor is divided by the floor, which has no gradient; an empty one gives no NaN."""
    signs, gate = random(1, 2, 16, 16).sign(), torch.tensor([[0.5, 0.25]])
    captured, dseed = scale * signs, random(1, 2, 16, 16, seed=5)
    unit, weights = scale * signs.double() / 1e-6, gate.double()[:, :, None, None]
    dcaptured, dgate = kernels.backward(dseed, captured, gate, True, None)
    assert dcaptured is not None and dgate is not None
    assert relative_error(kernels.forward(captured, gate, True, None), weights * unit) < 1e-6
    assert relative_error(dcaptured, weights * dseed.double() / 1e-6) < 1e-6
    assert relative_error(dgate, (dseed.double() * unit).sum((2, 3))) < 1e-6


def test_gradient_at_the_clip_is_that_of_torch_clamp(kernels: FutureSeed) -> None:
    """At the limit itself the gradient passes, one bit beyond it does not."""
    limit = torch.tensor(0.75)
    beyond = torch.nextafter(limit, 2 * limit)
    edges = torch.stack([limit, -limit, beyond, -beyond, limit / 2, -limit / 2, 2 * limit, 0 * limit])
    captured, gate = edges.expand(1, 2, 8, 8) / 2, torch.full((1, 2), 2.0)
    dseed = random(1, 2, 8, 8)
    z = (2 * captured).requires_grad_()
    clamped = z.clamp(-0.75, 0.75)
    (dz,) = torch.autograd.grad(clamped, z, dseed)
    dcaptured, _ = kernels.backward(dseed, captured, gate, False, 0.75)
    assert dcaptured is not None and torch.equal(dcaptured, 2 * dz)
    assert torch.equal(kernels.forward(captured, gate, False, 0.75), clamped)


def test_poison_in_another_matrix(kernels: FutureSeed) -> None:
    """NaN in one matrix is not hidden, and changes no bit of the others."""
    captured, gate, dseed = arguments(32)
    poisoned = captured.clone()
    poisoned[1, 1] = torch.nan
    clean, dirty = (
        [kernels.forward(C, gate, True, 0.8), *kernels.backward(dseed, C, gate, True, 0.8)]
        for C in (captured, poisoned)
    )
    for x, y in zip(dirty, clean, strict=True):
        assert x is not None and y is not None and x[1, 1].isnan().all()
        x[1, 1] = y[1, 1]
        assert torch.equal(x, y)


@pytest.mark.parametrize("N", [8, 64])
def test_the_order_of_threads_does_not_matter(library: Library, kernels: FutureSeed, N: int) -> None:
    """Any order in which threads and blocks take turns gives the same bits."""
    captured, gate, dseed = arguments(N)
    results = []
    for schedule in (0, 1, 2, 3):
        library.schedule(schedule)
        seed = kernels.forward(captured, gate, True, 0.8)
        results.append(bits([seed, *kernels.backward(dseed, captured, gate, True, 0.8)]))
    for others in results[1:]:
        assert all(map(torch.equal, others, results[0]))


def test_a_head_size_without_a_kernel(kernels: FutureSeed) -> None:
    """It is an error in words, not a launch."""
    with pytest.raises(KernelFault, match="invalid argument"):
        kernels.forward(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1), True, None)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("  sync_block();\n", ""),
        ("scale_of(C, squares) : Scale", "scale_of(C, products) : Scale"),
        ("if (thread_index() % kWarp == 0) write_shared", "write_shared"),
        ("if (out.dgate && thread_index() == 0)", "if (out.dgate)"),
    ],
    ids=["no barrier", "one memory for both sums", "all lanes write", "all threads write"],
)
def test_planted_races_are_caught(right: str, wrong: str) -> None:
    """Each barrier and each choice of a writer is needed, and the emulation sees it."""
    assert SOURCE.count(right) == 1
    broken = FutureSeed(compile_kernels(SOURCE.replace(right, wrong), "future_seed.cu"))
    captured, gate, dseed = arguments(32)
    with pytest.raises(KernelFault, match=r"no barrier in between|nobody has written"):
        broken.backward(dseed, captured, gate, True, 0.8)
