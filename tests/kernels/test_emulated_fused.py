"""The CUDA kernels of the small operators, run and watched by the emulation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fsearch.kernels import HEAD_SIZES

from .cases import relative_error
from .emulation.fused import Fused
from .emulation.library import KernelFault, Library, compile_kernels, kernel_source
from .fused_cases import OPERATORS, TOLERANCE, Case, assert_exact, random_case

SOURCE = kernel_source("fused.cu")

every_operator = pytest.mark.parametrize("operator", OPERATORS)


@pytest.fixture(scope="module")
def library() -> Library:
    """The kernels as they are."""
    return compile_kernels(SOURCE, "fused.cu")


@pytest.fixture
def kernels(library: Library) -> Fused:
    """The operators of `library`, threads in ascending order."""
    library.schedule(0)
    return Fused(library)


def assert_right(kernels: Fused, case: Case) -> None:
    assert_exact(case, case.run(kernels))


def assert_same_bits(xs: list[Tensor], ys: list[Tensor]) -> None:
    for x, y in zip(xs, ys, strict=True):
        assert torch.equal(x.view(torch.uint8), y.view(torch.uint8))


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("N", HEAD_SIZES)
def test_values_and_gradients(kernels: Fused, operator: str, N: int, dtype: torch.dtype) -> None:
    """Every head size in both precisions, with lanes that have no channel."""
    assert_right(kernels, random_case(operator, 2, 9, 3, N).to(dtype))


@every_operator
@pytest.mark.parametrize(("B", "T"), [(1, 1), (5, 1), (1, 16), (1, 17), (2, 16), (16, 2), (1, 150)])
def test_lengths(kernels: Fused, operator: str, B: int, T: int) -> None:
    """Samples that end within a block's rows, at their end, and after many."""
    assert_right(kernels, random_case(operator, B, T, 2, 8).to(torch.float32))


@every_operator
def test_more_channels_than_a_block_has(kernels: Fused, operator: str) -> None:
    """Several blocks share a row."""
    assert_right(kernels, random_case(operator, 1, 3, 9, 128).to(torch.float32))


@every_operator
@pytest.mark.usefixtures("kernel_library")
def test_they_are_the_cpu_s(kernels: Fused, operator: str) -> None:
    """Both implementations agree to rounding."""
    case = random_case(operator, 2, 21, 2, 16).to(torch.float32)
    for x, want in zip(case.run(kernels), case.run(torch.ops.fsearch), strict=True):
        assert relative_error(x, want) < 2 * TOLERANCE[torch.float32]


@pytest.mark.parametrize("length", [0.0, 9e-13, 1.1e-12])
def test_keys_around_the_floor(kernels: Fused, length: float) -> None:
    """A key below the floor is divided by the floor, which has no gradient; an empty one gives no NaN."""
    case = random_case("keys", 2, 5, 2, 16)
    k = case.rows[0].unflatten(1, (2, 16))
    scaled = length * k / (k * case.channels[0].view(2, 16)).norm(dim=-1, keepdim=True)
    assert_right(kernels, replace(case, rows=(scaled.flatten(1), case.rows[1])).to(torch.float32))


@every_operator
def test_poison_in_another_sample(kernels: Fused, operator: str) -> None:
    """NaN in one sample changes no bit of the others' outputs and gradients."""
    B, T = 3, 5
    case = random_case(operator, B, T, 2, 8).to(torch.float32)
    poisoned = replace(case, rows=tuple(x.clone() for x in case.rows))
    for x in poisoned.rows:
        x.view(B, T, -1)[1] = torch.nan
    clean, dirty = (
        [x.view(B, T, -1)[[0, 2]].clone() for x in one.without_sums(one.run(kernels))]
        for one in (case, poisoned)
    )
    assert_same_bits(clean, dirty)


@every_operator
def test_the_order_of_threads_does_not_matter(library: Library, kernels: Fused, operator: str) -> None:
    """Any order in which threads and blocks take turns gives the same bits."""
    case = random_case(operator, 2, 19, 2, 64).to(torch.float32)
    wanted = case.run(kernels)
    for schedule in (1, 2, 3):
        library.schedule(schedule)
        assert_same_bits(case.run(kernels), wanted)


def test_a_number_of_mixes_without_a_kernel(kernels: Fused) -> None:
    """It is an error in words, not a launch."""
    with pytest.raises(KernelFault, match="invalid argument"):
        kernels.shift_mix(torch.zeros(1, 1, 8), [torch.zeros(8)] * 2)


def broken(**wrong: str) -> Fused:
    """The operators with pieces of their source in the place of others."""
    source = SOURCE
    for right, instead in wrong.items():
        assert source.count(PIECES[right]) == 1
        source = source.replace(PIECES[right], instead)
    return Fused(compile_kernels(source, "fused.cu"))


PIECES = {
    "barrier": "  sync_block();\n",
    "one_writer": "if (slice || column >= columns) return;",
    "real": "real = c < grid.C;",
}


def test_planted_faults_are_caught() -> None:
    """The barrier and each guard are needed, and the emulation sees it."""
    narrow, full = (random_case("keys", 2, 19, H, 8).to(torch.float32) for H in (2, 16))
    without_barrier = broken(barrier="")
    with pytest.raises(KernelFault, match=r"nobody has written|no barrier in between"):
        full.run(without_barrier)
    without_guards = broken(one_writer="if (column >= columns) return;", real="real = true;")
    with pytest.raises(KernelFault, match="reads 4 numbers from index 16 of 'k_k', which has 16"):
        narrow.run(without_guards)
    with pytest.raises(KernelFault, match="of shared memory 'between', which has 256"):
        full.run(without_guards)
