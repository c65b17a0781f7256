"""The CUDA kernels on a real GPU: against float64, against the CPU kernel, and bit against bit.

Every test runs for the sequential kernels with float32 tensors and for the chunked ones with bfloat16.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from fsearch.kernels import HEAD_SIZES, wkv7_fs
from fsearch.kernels.choice import CHUNKED_HEAD_SIZES

from ..kernels.cases import (
    BF16_TOLERANCE,
    CHUNKED_TOLERANCE,
    IDENTICAL_TOKENS_TOLERANCE,
    NAMES,
    Case,
    random_case,
    relative_error,
    upstream,
)
from ..kernels.errors import assert_within, relative_errors

# fp32 tensors: sums over lanes and panels have another order than on a CPU, hence a little more than there.
TOLERANCE = {
    **dict.fromkeys(("y", "cap", "sT", "s0", "r", "k", "v"), 3e-6),
    **dict.fromkeys(("a", "b", "w"), 2e-5),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel, the type of its tensors here, its smallest head size, the errors it may have."""

    impl: Literal["cuda1", "cuda2"]
    dtype: torch.dtype
    N: int
    tolerance: dict[str, float]

    def __str__(self) -> str:
        return self.impl

    def run(self, case: Case, **options: Any) -> list[Tensor]:
        """The outputs of a case that is on the GPU, without those that it does not have."""
        outputs = wkv7_fs(*case.tensors, case.p, decay=case.decay, impl=self.impl, **options)
        return [x for x in outputs if x is not None]


SEQUENTIAL = Kernel("cuda1", torch.float32, 8, TOLERANCE)
CHUNKED = Kernel("cuda2", torch.bfloat16, 64, CHUNKED_TOLERANCE)


@pytest.fixture(params=[SEQUENTIAL, CHUNKED], ids=str)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return request.param


def move(case: Case, device: torch.device) -> Case:
    p = None if case.p is None else case.p.to(device)
    return replace(case, tensors=tuple(x.to(device) for x in case.tensors), p=p)


def errors_of(case: Case, gpu: torch.device, kernel: Kernel) -> dict[str, float]:
    """Relative error of each output and each gradient; tensors travel to the GPU and back inside autograd."""

    def run(*arguments: Tensor | None) -> list[Tensor | None]:
        there = [None if x is None else x.to(gpu) for x in arguments]
        outputs = wkv7_fs(*there, decay=case.decay, return_final=True, impl=kernel.impl)
        return [None if x is None else x.cpu() for x in outputs]

    return relative_errors(case, run)


def outputs_and_gradients(case: Case, kernel: Kernel) -> list[Tensor]:
    """Outputs, then gradients of everything, of a case that is on the GPU."""
    case = case.with_grad()
    given = kernel.run(case, return_final=True)
    return [*given, *torch.autograd.grad(given, case.tensors, upstream(tuple(given)))]


def assert_same_bits(found: list[Tensor], wanted: list[Tensor]) -> None:
    for x, want in zip(found, wanted, strict=True):
        assert torch.equal(x, want)


@pytest.mark.parametrize("decay", ["sigmoid", "exp"])
@pytest.mark.parametrize("T", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 128, 129, 257])
def test_lengths(gpu: torch.device, kernel: Kernel, T: int, decay: str) -> None:
    """Any length, around segments, chunks and checkpoints, with a random capture in every sample."""
    x = (-6.0, 3.0) if decay == "sigmoid" else (-6.0, -0.5)
    case = random_case(3, T, 2, max(16, kernel.N), seed=T, decay=decay, x=x).to(kernel.dtype)
    assert_within(errors_of(case, gpu, kernel), kernel.tolerance)


@pytest.mark.parametrize(
    ("kernel", "N"), [*((SEQUENTIAL, N) for N in HEAD_SIZES), *((CHUNKED, N) for N in CHUNKED_HEAD_SIZES)]
)
def test_head_sizes(gpu: torch.device, kernel: Kernel, N: int) -> None:
    """Every head size, across a checkpoint."""
    assert_within(errors_of(random_case(2, 140, 2, N).to(kernel.dtype), gpu, kernel), kernel.tolerance)


@pytest.mark.parametrize(
    ("kernel", "N"), [*((SEQUENTIAL, N) for N in HEAD_SIZES), *((CHUNKED, N) for N in CHUNKED_HEAD_SIZES)]
)
@pytest.mark.parametrize("decay_dtype", [torch.bfloat16, torch.float32])
def test_bf16(gpu: torch.device, kernel: Kernel, N: int, decay_dtype: torch.dtype) -> None:
    """bfloat16 tensors, and float32 decays beside them."""
    case = random_case(2, 140, 2, N)
    r, _, k, v, a, b, s0 = case.to(torch.bfloat16).tensors
    case = replace(case, tensors=(r, case.tensors[1].to(decay_dtype), k, v, a, b, s0))
    tolerance = BF16_TOLERANCE if kernel is SEQUENTIAL else kernel.tolerance
    assert_within(errors_of(case, gpu, kernel), tolerance)


def test_captures(gpu: torch.device, kernel: Kernel) -> None:
    """Captures at the ends and one off every border."""
    p = torch.tensor([0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 128, 129, 143, 144])
    case = random_case(len(p), 144, 1, kernel.N, p=p).to(kernel.dtype)
    assert_within(errors_of(case, gpu, kernel), kernel.tolerance)
    case = random_case(2, 40, 1, kernel.N).to(kernel.dtype)
    assert_within(errors_of(replace(case, p=None), gpu, kernel), kernel.tolerance)


@pytest.mark.parametrize(
    ("decay", "x"),
    [
        *(("sigmoid", x) for x in ((-200, 200), (-20, -20), (8, 8))),
        *(("exp", x) for x in ((1, 2), (2, 4), (80, 80), (200, 200))),
    ],
)
def test_extreme_decays(gpu: torch.device, kernel: Kernel, decay: str, x: tuple[float, float]) -> None:
    """From a decay of 1 to a decay of 0, and beyond where exp overflows."""
    case = random_case(2, 70, 2, max(16, kernel.N), decay=decay, x=x).to(kernel.dtype)
    assert_within(errors_of(case, gpu, kernel), kernel.tolerance)


@pytest.mark.parametrize("x", [(-6, 3), (-8, -8)])
def test_identical_tokens(gpu: torch.device, x: tuple[float, float]) -> None:
    """256 times the same token, each erasing what its key held, by the chunked kernels."""
    case = random_case(1, 256, 6, 64, x=x)
    same = [y[:, :1].expand_as(y) for y in case.tensors[:6]]
    same[5] = -same[4]
    case = replace(case, tensors=(*same, case.tensors[6])).to(torch.bfloat16)
    assert_within(errors_of(case, gpu, CHUNKED), IDENTICAL_TOKENS_TOLERANCE)


def test_as_the_cpu_kernel(gpu: torch.device, kernel: Kernel) -> None:
    """At a size nobody checks by hand the two kernels agree."""
    case = random_case(2, 600, 3, 64).to(kernel.dtype)
    there = kernel.run(move(case, gpu), return_final=True)
    here = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
    for name, x, want in zip(("y", "cap", "sT"), there, here, strict=True):
        most = 5e-6 if kernel is SEQUENTIAL else kernel.tolerance[name]
        assert want is not None and relative_error(x.cpu(), want) < most


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [(SEQUENTIAL, torch.float32), (SEQUENTIAL, torch.bfloat16), (CHUNKED, torch.bfloat16)],
)
def test_the_same_bits(gpu: torch.device, kernel: Kernel, dtype: torch.dtype) -> None:
    """Two runs, another stream, and each sample alone: all bits equal."""
    case = move(random_case(8, 150, 2, 64).to(dtype), gpu)
    wanted = outputs_and_gradients(case, kernel)
    assert_same_bits(outputs_and_gradients(case, kernel), wanted)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = outputs_and_gradients(case, kernel)
    torch.cuda.synchronize()
    assert_same_bits(found, wanted)

    assert case.p is not None
    outputs = kernel.run(case, return_final=True)
    for n in range(8):
        alone = Case(tuple(x[n : n + 1] for x in case.tensors), case.p[n : n + 1])
        assert_same_bits([x[0] for x in kernel.run(alone, return_final=True)], [x[n] for x in outputs])


def test_gradients_of_some_inputs(gpu: torch.device, kernel: Kernel) -> None:
    """Where only some tensors ask for a gradient it has the bits it has among all."""
    case = move(random_case(2, 70, 1, kernel.N).to(kernel.dtype), gpu)
    every = dict(zip(NAMES, outputs_and_gradients(case, kernel)[-len(NAMES) :], strict=True))
    for asking in (("r",), ("w", "s0"), ("v", "k", "a"), ("s0",)):
        tensors = tuple(
            x.clone().requires_grad_(name in asking) for name, x in zip(NAMES, case.tensors, strict=True)
        )
        given = kernel.run(replace(case, tensors=tensors), return_final=True)
        wanted = [x for name, x in zip(NAMES, tensors, strict=True) if name in asking]
        found = torch.autograd.grad(given, wanted, upstream(tuple(given)))
        assert_same_bits(list(found), [every[name] for name in NAMES if name in asking])


def test_one_pass_is_two_calls(gpu: torch.device, kernel: Kernel) -> None:
    """Capturing at p and going on equals a call for the prompt and one for the answer from its state."""
    *six, s0 = move(random_case(2, 200, 2, 64).to(kernel.dtype), gpu).tensors
    for at in (1, 64, 131):
        p = torch.full((2,), at, device=gpu)
        y, cap, sT = kernel.run(Case((*six, s0), p), return_final=True)
        first, between = kernel.run(Case((*(x[:, :at] for x in six), s0), None), return_final=True)
        second, last = kernel.run(Case((*(x[:, at:] for x in six), between), None), return_final=True)
        assert_same_bits([cap, sT, y], [between, last, torch.cat([first, second], 1)])


def test_poison(gpu: torch.device, kernel: Kernel) -> None:
    """NaN from p on reaches neither the capture nor earlier outputs; NaN in a sample reaches no other."""
    case = move(random_case(3, 140, 2, 64, p=torch.tensor([5, 16, 139])).to(kernel.dtype), gpu)
    assert case.p is not None
    want_y, want_cap = kernel.run(case)
    poisoned = [x.clone() for x in case.tensors]
    for x in poisoned[:6]:
        for n, p in enumerate(case.p.tolist()):
            x[n, p:] = torch.nan
    y, cap = kernel.run(replace(case, tensors=tuple(poisoned)))
    assert torch.equal(cap, want_cap)
    for n, p in enumerate(case.p.tolist()):
        assert torch.equal(y[n, :p], want_y[n, :p])

    clean = outputs_and_gradients(case, kernel)
    tensors = tuple(x.index_fill(0, torch.tensor([1], device=gpu), torch.nan) for x in case.tensors)
    for x, want in zip(outputs_and_gradients(replace(case, tensors=tensors), kernel), clean, strict=True):
        assert torch.equal(x[[0, 2]], want[[0, 2]])


def test_uninitialised_memory_is_never_read(gpu: torch.device, kernel: Kernel) -> None:
    """With every fresh tensor filled with NaN, workspaces included, results and gradients stay finite."""
    case = move(random_case(2, 140, 2, 64).to(kernel.dtype), gpu)
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        assert torch.empty(3, device=gpu).isnan().all()
        for x in outputs_and_gradients(case, kernel):
            assert x.isfinite().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_any_strides_and_alignment(gpu: torch.device, kernel: Kernel) -> None:
    """Transposed, expanded and misaligned views give what their copies give."""
    case = move(random_case(2, 20, 3, kernel.N).to(torch.bfloat16), gpu)
    r, w, k, v, a, b, s0 = case.tensors
    storage = torch.empty(r.numel() + 1, dtype=r.dtype, device=gpu)
    misaligned = storage[1:].view(r.shape).copy_(r)
    assert misaligned.data_ptr() % 16 != 0
    strided = w.transpose(1, 2).contiguous().transpose(1, 2)
    expanded = k[:, :1].expand_as(k)
    got = kernel.run(Case((misaligned, strided, expanded, v, a, b, s0.mT), case.p))
    want = kernel.run(Case((r, w, expanded.clone(), v, a, b, s0.mT.contiguous()), case.p))
    assert_same_bits(got, want)


def test_more_heads_than_a_grid_dimension_holds(gpu: torch.device, kernel: Kernel) -> None:
    """65536 heads and more: the last samples are what a batch of their own gives."""
    few = move(random_case(3, 3, 8, kernel.N).to(kernel.dtype), gpu)
    assert few.p is not None
    many = Case(tuple(x.repeat(2731, *(1,) * (x.dim() - 1)) for x in few.tensors), few.p.repeat(2731))
    assert_same_bits([x[-3:] for x in kernel.run(many)], kernel.run(few))


def test_counts_out_of_range_are_held(gpu: torch.device, kernel: Kernel) -> None:
    """On a GPU nobody can look at p: the kernel holds it to 0..T."""
    case = move(random_case(3, 20, 1, kernel.N).to(kernel.dtype), gpu)
    wild = kernel.run(replace(case, p=torch.tensor([-7, 21, 10**9], device=gpu)))
    held = kernel.run(replace(case, p=torch.tensor([0, 20, 20], device=gpu)))
    assert_same_bits(wild, held)


def test_torch_compile(gpu: torch.device, kernel: Kernel) -> None:
    """torch.compile takes the operator whole, and changes no bit."""
    case = move(random_case(2, 140, 1, 64).to(kernel.dtype), gpu).with_grad()

    def function(*xs: Tensor) -> Any:
        y, cap, _ = wkv7_fs(*xs, case.p, impl=kernel.impl)
        assert cap is not None
        return y.square().sum() + cap.sum()

    torch.compiler.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    results = []
    for run in (function, compiled):
        loss = run(*case.tensors)
        results.append([loss, *torch.autograd.grad(loss, case.tensors)])
    assert_same_bits(results[1], results[0])


def test_memory_of_saved_states(gpu: torch.device) -> None:
    """What the chunked kernels keep of twelve layers at B=8, T=4096, H=12, N=64, beside their inputs."""
    w = torch.zeros(8, 4096, 12, 64, dtype=torch.bfloat16, device=gpu)
    checkpoints = torch.ops.fsearch.wkv7_forward(w, w, w, w, w, w, None, None, True, False, True, True)[3]
    assert 12 * checkpoints.nbytes < 0.7e9


def test_float64_is_refused(gpu: torch.device) -> None:
    """The CUDA kernels compute in float32 and say so; "auto" takes the portable form."""
    case = move(random_case(1, 9, 1, 64, dtype=torch.float64), gpu)
    with pytest.raises(TypeError, match="computes in float32"):
        wkv7_fs(*case.tensors, impl="cuda1")
    with pytest.raises(ValueError, match="takes bfloat16 tensors"):
        wkv7_fs(*case.tensors, impl="cuda2")
    assert wkv7_fs(*case.tensors)[0].dtype == torch.float64


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck", "initcheck"])
def test_compute_sanitizer(gpu: torch.device, kernel_library: Path, tool: str) -> None:
    """NVIDIA's checker finds nothing in small shapes of every kernel."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer"
    )
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    command = [
        sanitizer,
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        sys.executable,
        "-m",
        "tests.gpu.small_shapes",
    ]
    run = subprocess.run([*command, str(kernel_library)], capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
