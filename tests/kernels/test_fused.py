"""The small operators of a layer, compiled: their numbers, and what must not change them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fsearch.kernels import HEAD_SIZES

from .fused_cases import OPERATORS, TOLERANCE, Case, assert_exact, random_case

pytestmark = pytest.mark.usefixtures("kernel_library")

every_operator = pytest.mark.parametrize("operator", OPERATORS)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(case: Case, upstream: list[Tensor] | None = None) -> list[Tensor]:
    """Outputs, gradients of rows, gradients of channels."""
    return case.run(torch.ops.fsearch, upstream)


def assert_same_bits(xs: list[Tensor], ys: list[Tensor]) -> None:
    for x, y in zip(xs, ys, strict=True):
        assert torch.equal(x, y)


@every_operator
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("N", HEAD_SIZES)
def test_values_and_gradients(operator: str, N: int, dtype: torch.dtype) -> None:
    """Every head size in every precision, over several chunks of rows and one that is not full."""
    case = random_case(operator, 3, 14, 3, N).to(dtype)
    assert_exact(case, run(case))


@every_operator
@pytest.mark.parametrize(("B", "T"), [(1, 1), (5, 1), (1, 16), (1, 17), (2, 16), (16, 2), (1, 300)])
def test_lengths(operator: str, B: int, T: int) -> None:
    """Samples that end within a chunk of rows, at its end, and after many."""
    case = random_case(operator, B, T, 2, 8).to(torch.float32)
    assert_exact(case, run(case))


def test_plain_code_is_exact(kernel_library: Path) -> None:
    """The object for any machine, which one with AVX2 would not choose by itself."""
    script = (
        "import sys; from pathlib import Path; from fsearch.kernels import load; load(Path(sys.argv[1]))\n"
        "from tests.kernels.test_fused import *\n"
        "for operator in OPERATORS:\n"
        "    for dtype in TOLERANCE:\n"
        "        case = random_case(operator, 2, 19, 2, 16).to(dtype)\n"
        "        assert_exact(case, run(case))"
    )
    command = [sys.executable, "-c", script, str(kernel_library)]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@every_operator
def test_gradcheck(operator: str) -> None:
    """The backward pass is the finite difference of the forward pass, in double."""
    case = random_case(operator, 2, 3, 1, 8)
    rows = len(case.rows)

    def function(*tensors: Tensor) -> list[Tensor]:
        return replace(case, rows=tensors[:rows], channels=tensors[rows:]).forward(torch.ops.fsearch)

    inputs = tuple(x.clone().requires_grad_() for x in (*case.rows, *case.channels))
    assert torch.autograd.gradcheck(function, inputs, eps=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0.0, 1e-16, 9e-13, 1.1e-12, 1e-3])
def test_keys_around_the_floor(length: float, dtype: torch.dtype) -> None:
    """A key below the floor is divided by the floor, which has no gradient; an empty one gives no NaN."""
    case = random_case("keys", 2, 5, 2, 16)
    k = case.rows[0].unflatten(1, (2, 16))
    scaled = length * k / (k * case.channels[0].view(2, 16)).norm(dim=-1, keepdim=True)
    case = replace(case, rows=(scaled.flatten(1), case.rows[1])).to(dtype)
    assert_exact(case, run(case))


@every_operator
def test_gradients_arrive_in_the_parameters(operator: str) -> None:
    """Through autograd each tensor gets the gradient of the raw operator, in its own shape and precision;
    parameters that are bfloat16 themselves too."""
    for finer in (torch.float32, torch.bfloat16):
        case = random_case(operator, 2, 9, 2, 8).to(torch.bfloat16)
        case = replace(case, channels=tuple(x.to(finer) for x in case.channels))
        leaves = [x.detach().clone().requires_grad_() for x in (*case.rows, *case.channels)]
        rows = len(case.rows)
        learning = replace(case, rows=tuple(leaves[:rows]), channels=tuple(leaves[rows:]))
        torch.autograd.backward(learning.forward(torch.ops.fsearch), case.upstream())
        found = case.backward(torch.ops.fsearch, case.upstream())
        wanted = [*case.without_sums(found), *(found[-1] if case.channels else ())]
        for leaf, want in zip(leaves, wanted, strict=True):
            assert leaf.grad is not None and leaf.grad.dtype == leaf.dtype
            assert torch.equal(leaf.grad, want.view(leaf.shape).to(leaf.dtype))


@every_operator
def test_an_output_that_nobody_uses(operator: str) -> None:
    """Its gradient is zero."""
    case = random_case(operator, 2, 3, 1, 8)
    x = case.rows[0].requires_grad_()
    first, *others = case.forward(torch.ops.fsearch)
    (found,) = torch.autograd.grad(first.sum(), x)
    zeros = [torch.zeros_like(first) for _ in others]
    assert torch.equal(found, case.backward(torch.ops.fsearch, [torch.ones_like(first), *zeros])[0])


@every_operator
@pytest.mark.usefixtures("threads")
def test_threads_and_repetition(operator: str) -> None:
    """One thread, two threads and a second run give the same bits."""
    case = random_case(operator, 4, 200, 4, 64).to(torch.float32)
    torch.set_num_threads(1)
    alone = run(case)
    torch.set_num_threads(2)
    assert_same_bits(run(case), alone)
    assert_same_bits(run(case), alone)


@every_operator
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_sample_does_not_depend_on_its_batch(operator: str, dtype: torch.dtype) -> None:
    """A batch of three is three batches of one, but for the sums over all rows; NaN in one sample reaches no
    other."""
    B, T = 3, 21
    case = random_case(operator, B, T, 2, 8).to(dtype)
    poisoned = replace(case, rows=tuple(x.clone() for x in case.rows))
    for x in poisoned.rows:
        x.view(B, T, -1)[1] = torch.nan
    together, dirty = (one.without_sums(run(one)) for one in (case, poisoned))
    for n in range(B):
        rows = tuple(x[n : n + 1] if x.dim() == 3 else x.view(B, T, -1)[n] for x in case.rows)
        alone = replace(case, rows=rows)
        given = [x.view(B, T, -1)[n] for x in case.upstream()]
        found = [x.view(T, -1) for x in case.without_sums(run(alone, given))]
        assert_same_bits(found, [x.view(B, T, -1)[n] for x in together])
        if n != 1:
            assert_same_bits(found, [x.view(B, T, -1)[n] for x in dirty])
    assert dirty[0].view(B, T, -1)[1].isnan().any()


@every_operator
def test_strides_do_not_matter(operator: str) -> None:
    """Transposed and unaligned rows give the bits of contiguous ones."""
    case = random_case(operator, 2, 5, 2, 8).to(torch.float32)
    wanted = run(case)
    transposed = tuple(x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in case.rows)
    unaligned = tuple(torch.cat((x.new_zeros(1), x.flatten()))[1:].view_as(x) for x in case.rows)
    for rows in (transposed, unaligned):
        assert_same_bits(run(replace(case, rows=rows)), wanted)


@every_operator
def test_uninitialised_memory_is_never_read(operator: str) -> None:
    """With every fresh tensor filled with NaN, results and gradients stay finite."""
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        found = run(random_case(operator, 2, 21, 2, 8).to(torch.float32))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(x.isfinite().all() for x in found)


@every_operator
def test_fake_kernels(operator: str) -> None:
    """Schema, autograd registration, fake kernels and AOT dispatch as PyTorch itself checks them."""
    case = random_case(operator, 2, 3, 2, 8).to(torch.float32)
    ops, upstream = torch.ops.fsearch, case.upstream()
    needing = replace(case, rows=tuple(x.clone().requires_grad_() for x in case.rows))
    torch.library.opcheck(getattr(ops, case.name).default, needing.arguments)
    given = (upstream,) if case.name == "shift_mix" else upstream
    torch.library.opcheck(getattr(ops, f"{case.name}_backward").default, (*given, *case.arguments))


@every_operator
def test_second_derivative(operator: str) -> None:
    """Differentiating an operator twice is refused in words."""
    case = random_case(operator, 1, 2, 1, 8)
    x = case.rows[0].requires_grad_()
    with pytest.raises(RuntimeError, match=f"{case.name} cannot be differentiated twice"):
        torch.autograd.grad(case.forward(torch.ops.fsearch)[0].sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("operator", "arguments", "error", "message"),
    [
        ("shift_mix", lambda x, c: (x[0], [c]), ValueError, r"x must have the shape \[B,T,C\]"),
        ("shift_mix", lambda x, c: (x, [c, c]), ValueError, "there must be 1 or 6 mixes, not 2"),
        ("shift_mix", lambda x, c: (x, [c[1:]]), ValueError, "mix must have 16 channels"),
        ("shift_mix", lambda x, c: (x[..., :12], [c[:12]]), ValueError, "a multiple of 8 channels"),
        ("shift_mix", lambda x, c: (x.half(), [c]), TypeError, "takes Float, BFloat16 or"),
        ("keys", lambda x, c: (x, x[:1], c, c, 8), ValueError, "rate must have 6 rows of 16 channels"),
        ("keys", lambda x, c: (x, x.double(), c, c, 8), TypeError, "rate must be Float"),
        ("keys", lambda x, c: (x, x, c, c.double(), 8), TypeError, "k_a must be Float"),
        ("keys", lambda x, c: (x, x, c, c, 12), ValueError, "takes heads of 8, 16, .* not of 12"),
        ("keys", lambda x, c: (x, x, c, c, 32), ValueError, "not of 32 of 16 channels"),
    ],
)
def test_raw_operators_refuse_what_would_read_beyond_memory(
    operator: str, arguments: Any, error: type[Exception], message: str
) -> None:
    """Sizes and types are checked, for callers that go around the model."""
    with pytest.raises(error, match=message):
        getattr(torch.ops.fsearch, operator)(*arguments(torch.zeros(2, 3, 16), torch.zeros(16)))
