"""The small operators of a layer on a real GPU: against float64, against the CPU, and bit against bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fsearch.kernels import HEAD_SIZES

from ..kernels.fused_cases import OPERATORS, Case, assert_exact, random_case

every_operator = pytest.mark.parametrize("operator", OPERATORS)
in_both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def run(case: Case, gpu: torch.device) -> list[Tensor]:
    """Outputs, gradients of rows, gradients of channels, computed there."""
    rows, channels = (tuple(x.to(gpu) for x in xs) for xs in (case.rows, case.channels))
    there = replace(case, rows=rows, channels=channels)
    return [x.cpu() for x in there.run(torch.ops.fsearch, [x.to(gpu) for x in case.upstream()])]


@every_operator
@in_both_precisions
@pytest.mark.parametrize("N", HEAD_SIZES)
def test_values_and_gradients(gpu: torch.device, operator: str, N: int, dtype: torch.dtype) -> None:
    """Every head size in both precisions, with lanes that have no channel."""
    case = random_case(operator, 3, 14, 3, N).to(dtype)
    assert_exact(case, run(case, gpu))


@every_operator
@pytest.mark.parametrize(("B", "T"), [(1, 1), (5, 1), (1, 16), (1, 17), (2, 16), (16, 2), (1, 3000)])
def test_lengths(gpu: torch.device, operator: str, B: int, T: int) -> None:
    """Samples that end within a block's rows, at their end, and after many."""
    case = random_case(operator, B, T, 12, 64).to(torch.float32)
    assert_exact(case, run(case, gpu))


@every_operator
@in_both_precisions
def test_the_same_bits_each_time(gpu: torch.device, operator: str, dtype: torch.dtype) -> None:
    """Three runs at the size of a real step."""
    case = random_case(operator, 8, 512, 12, 64).to(dtype)
    wanted = run(case, gpu)
    for _ in range(2):
        for x, want in zip(run(case, gpu), wanted, strict=True):
            assert torch.equal(x, want)
