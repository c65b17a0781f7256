"""The CUDA kernels on a real GPU: against float64, against the CPU kernel, and bit against bit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fsearch.kernels import HEAD_SIZES, wkv7_fs

from ..kernels.cases import BF16_TOLERANCE, Case, random_case, relative_error, upstream
from ..kernels.errors import assert_within, relative_errors

# fp32 tensors: sums over lanes and panels have another order than on a CPU, hence a little more than there.
TOLERANCE = {
    **dict.fromkeys(("y", "cap", "sT", "s0", "r", "k", "v"), 3e-6),
    **dict.fromkeys(("a", "b", "w"), 2e-5),
}


def move(case: Case, device: torch.device) -> Case:
    p = None if case.p is None else case.p.to(device)
    return replace(case, tensors=tuple(x.to(device) for x in case.tensors), p=p)


def errors_of(case: Case, gpu: torch.device) -> dict[str, float]:
    """Relative error of each output and each gradient; tensors travel to the GPU and back inside autograd."""

    def run(*arguments: Tensor | None) -> list[Tensor | None]:
        there = [None if x is None else x.to(gpu) for x in arguments]
        outputs = wkv7_fs(*there, decay=case.decay, return_final=True, impl="cuda1")
        return [None if x is None else x.cpu() for x in outputs]

    return relative_errors(case, run)


def outputs_and_gradients(case: Case) -> list[Tensor]:
    """Outputs, then gradients of everything, of a case that is on the GPU."""
    case = case.with_grad()
    outputs = wkv7_fs(*case.tensors, case.p, decay=case.decay, return_final=True, impl="cuda1")
    given = [x for x in outputs if x is not None]
    return [*given, *torch.autograd.grad(given, case.tensors, upstream(tuple(given)))]


def assert_same_bits(found: list[Tensor], wanted: list[Tensor]) -> None:
    for x, want in zip(found, wanted, strict=True):
        assert torch.equal(x, want)


@pytest.mark.parametrize("decay", ["sigmoid", "exp"])
@pytest.mark.parametrize("T", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 128, 129, 257])
def test_lengths(gpu: torch.device, T: int, decay: str) -> None:
    """Any length, around segments, staged tokens and checkpoints, with a random capture in every sample."""
    x = (-6.0, 3.0) if decay == "sigmoid" else (-6.0, -0.5)
    assert_within(errors_of(random_case(3, T, 2, 16, seed=T, decay=decay, x=x), gpu), TOLERANCE)


@pytest.mark.parametrize("N", HEAD_SIZES)
def test_head_sizes(gpu: torch.device, N: int) -> None:
    """Every head size, across a checkpoint."""
    assert_within(errors_of(random_case(2, 140, 2, N), gpu), TOLERANCE)


@pytest.mark.parametrize("N", HEAD_SIZES)
@pytest.mark.parametrize("decay_dtype", [torch.bfloat16, torch.float32])
def test_bf16(gpu: torch.device, N: int, decay_dtype: torch.dtype) -> None:
    """bfloat16 tensors, and float32 decays beside them."""
    case = random_case(2, 140, 2, N)
    r, _, k, v, a, b, s0 = case.to(torch.bfloat16).tensors
    case = replace(case, tensors=(r, case.tensors[1].to(decay_dtype), k, v, a, b, s0))
    assert_within(errors_of(case, gpu), BF16_TOLERANCE)


def test_captures(gpu: torch.device) -> None:
    """Captures at the ends and one off every border."""
    p = torch.tensor([0, 1, 7, 8, 9, 15, 16, 17, 127, 128, 129, 143, 144])
    assert_within(errors_of(random_case(len(p), 144, 1, 8, p=p), gpu), TOLERANCE)
    case = random_case(2, 40, 1, 8)
    assert_within(errors_of(replace(case, p=None), gpu), TOLERANCE)


@pytest.mark.parametrize(
    ("decay", "x"), [("sigmoid", (-200, 200)), ("sigmoid", (-20, -20)), ("exp", (2, 4)), ("exp", (200, 200))]
)
def test_extreme_decays(gpu: torch.device, decay: str, x: tuple[float, float]) -> None:
    """From a decay of 1 to a decay of 0, and beyond where exp overflows."""
    assert_within(errors_of(random_case(2, 70, 1, 16, decay=decay, x=x), gpu), TOLERANCE)


def test_as_the_cpu_kernel(gpu: torch.device) -> None:
    """At a size nobody checks by hand the two kernels agree."""
    case = random_case(2, 600, 3, 64)
    there = wkv7_fs(*move(case, gpu).tensors, move(case, gpu).p, return_final=True, impl="cuda1")
    here = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cpu")
    for x, want in zip(there, here, strict=True):
        assert x is not None and want is not None and relative_error(x.cpu(), want) < 5e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits(gpu: torch.device, dtype: torch.dtype) -> None:
    """Two runs, another stream, and each sample alone: all bits equal."""
    case = move(random_case(5, 150, 2, 64).to(dtype), gpu)
    wanted = outputs_and_gradients(case)
    assert_same_bits(outputs_and_gradients(case), wanted)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = outputs_and_gradients(case)
    torch.cuda.synchronize()
    assert_same_bits(found, wanted)

    assert case.p is not None
    outputs = wkv7_fs(*case.tensors, case.p, return_final=True, impl="cuda1")
    for n in range(5):
        alone = wkv7_fs(
            *(x[n : n + 1] for x in case.tensors), case.p[n : n + 1], return_final=True, impl="cuda1"
        )
        for x, want in zip(alone, outputs, strict=True):
            assert x is not None and want is not None and torch.equal(x[0], want[n])


def test_one_pass_is_two_calls(gpu: torch.device) -> None:
    """Capturing at p and going on equals a call for the prompt and one for the answer from its state."""
    *six, s0 = move(random_case(2, 200, 2, 64), gpu).tensors
    for at in (1, 64, 131):
        p = torch.full((2,), at, device=gpu)
        y, cap, sT = wkv7_fs(*six, s0, p, return_final=True, impl="cuda1")
        first, _, between = wkv7_fs(*(x[:, :at] for x in six), s0, return_final=True, impl="cuda1")
        second, _, last = wkv7_fs(*(x[:, at:] for x in six), between, return_final=True, impl="cuda1")
        assert cap is not None and between is not None and sT is not None and last is not None
        assert_same_bits([cap, sT, y], [between, last, torch.cat([first, second], 1)])


def test_poison(gpu: torch.device) -> None:
    """NaN from p on reaches neither the capture nor earlier outputs; NaN in a sample reaches no other."""
    case = move(random_case(3, 140, 2, 64, p=torch.tensor([5, 16, 139])), gpu)
    assert case.p is not None
    want_y, want_cap, _ = wkv7_fs(*case.tensors, case.p, impl="cuda1")
    poisoned = [x.clone() for x in case.tensors]
    for x in poisoned[:6]:
        for n, p in enumerate(case.p.tolist()):
            x[n, p:] = torch.nan
    y, cap, _ = wkv7_fs(*poisoned, case.p, impl="cuda1")
    assert cap is not None and want_cap is not None and torch.equal(cap, want_cap)
    for n, p in enumerate(case.p.tolist()):
        assert torch.equal(y[n, :p], want_y[n, :p])

    clean = outputs_and_gradients(case)
    tensors = tuple(x.index_fill(0, torch.tensor([1], device=gpu), torch.nan) for x in case.tensors)
    for x, want in zip(outputs_and_gradients(replace(case, tensors=tensors)), clean, strict=True):
        assert torch.equal(x[[0, 2]], want[[0, 2]])


def test_uninitialised_memory_is_never_read(gpu: torch.device) -> None:
    """With every fresh tensor filled with NaN, workspaces included, results and gradients stay finite."""
    case = move(random_case(2, 140, 2, 64), gpu)
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        assert torch.empty(3, device=gpu).isnan().all()
        for x in outputs_and_gradients(case):
            assert x.isfinite().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_any_strides_and_alignment(gpu: torch.device) -> None:
    """Transposed, expanded and misaligned views give what their copies give."""
    case = move(random_case(2, 20, 3, 8).to(torch.bfloat16), gpu)
    r, w, k, v, a, b, s0 = case.tensors
    storage = torch.empty(r.numel() + 1, dtype=r.dtype, device=gpu)
    misaligned = storage[1:].view(r.shape).copy_(r)
    assert misaligned.data_ptr() % 16 != 0
    strided = w.transpose(1, 2).contiguous().transpose(1, 2)
    expanded = k[:, :1].expand_as(k)
    got = wkv7_fs(misaligned, strided, expanded, v, a, b, s0.mT, case.p, impl="cuda1")
    want = wkv7_fs(r, w, expanded.clone(), v, a, b, s0.mT.contiguous(), case.p, impl="cuda1")
    assert torch.equal(got[0], want[0])
    assert got[1] is not None and want[1] is not None and torch.equal(got[1], want[1])


def test_more_heads_than_a_grid_dimension_holds(gpu: torch.device) -> None:
    """65536 heads and more: the last samples are what a batch of their own gives."""
    case = move(random_case(8193, 3, 8, 8), gpu)
    assert case.p is not None
    y, _, _ = wkv7_fs(*case.tensors, case.p, impl="cuda1")
    alone, _, _ = wkv7_fs(*(x[-3:] for x in case.tensors), case.p[-3:], impl="cuda1")
    assert torch.equal(y[-3:], alone)


def test_counts_out_of_range_are_held(gpu: torch.device) -> None:
    """On a GPU nobody can look at p: the kernel holds it to 0..T."""
    case = move(random_case(3, 20, 1, 8), gpu)
    wild = wkv7_fs(*case.tensors, torch.tensor([-7, 21, 10**9], device=gpu), impl="cuda1")[1]
    held = wkv7_fs(*case.tensors, torch.tensor([0, 20, 20], device=gpu), impl="cuda1")[1]
    assert wild is not None and held is not None and torch.equal(wild, held)


def test_torch_compile(gpu: torch.device) -> None:
    """torch.compile takes the operator whole, and changes no bit."""
    case = move(random_case(2, 140, 1, 64), gpu).with_grad()

    def function(*xs: Tensor) -> Any:
        y, cap, _ = wkv7_fs(*xs, case.p, impl="cuda1")
        assert cap is not None
        return y.square().sum() + cap.sum()

    torch.compiler.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    results = []
    for run in (function, compiled):
        loss = run(*case.tensors)
        results.append([loss, *torch.autograd.grad(loss, case.tensors)])
    assert_same_bits(results[1], results[0])


def test_float64_is_refused(gpu: torch.device) -> None:
    """The CUDA kernel computes in float32 and says so; "auto" takes the portable form."""
    case = move(random_case(1, 9, 1, 8, dtype=torch.float64), gpu)
    with pytest.raises(TypeError, match="computes in float32"):
        wkv7_fs(*case.tensors, impl="cuda1")
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
