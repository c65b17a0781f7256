"""flash-linear-attention's model with our parameters makes our steps: `bench step --against fla` is fair.

Where flash-linear-attention is installed: on a GPU, or with TRITON_INTERPRET=1 on the CPU, slowly.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from fsearch.train.fla_step import FlaStep
from fsearch.train.network import Network
from fsearch.train.recipe import Precision
from fsearch.train.step_contender import OwnStep, Shape, base_network, contender, parts_of, random_batch

pytestmark = pytest.mark.timeout(1200)  # the first call of each of its kernels tries many forms of it

SHAPE = Shape(2, 64, 32, vocab_size=19, batch=2, tokens=70)  # in chunks of 64
BATCH = random_batch(2, 70, 19)


def interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make up for what Triton's interpreter lacks: a clock for autotuning, and tensors as loop variables."""
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.interpreter import _implicit_cvt

    monkeypatch.setattr(Autotuner, "do_bench", lambda self, call, quantiles: [0.0] * len(quantiles))
    for name in ("chunk_h_fwd", "chunk_h_bwd"):
        module = importlib.import_module(f"fla.ops.generalized_delta_rule.dplr.{name}")
        monkeypatch.setattr(module, "range", lambda *ends: map(_implicit_cvt, range(*ends)), raising=False)


@pytest.fixture
def device(kernel_library: object, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where its kernels run."""
    try:
        version("flash-linear-attention")
    except PackageNotFoundError:
        pytest.skip("flash-linear-attention is not installed")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("without a GPU its kernels run with TRITON_INTERPRET=1 alone")
    interpret(monkeypatch)
    return torch.device("cpu")


def network(precision: Precision, device: torch.device) -> Network:
    """With random values everywhere, so that every parameter moves the loss and has a gradient."""
    made = base_network(SHAPE, precision, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made.to(str(device))


Made = tuple[OwnStep | FlaStep, Network]


def steps(name: str, precision: Precision, masters: torch.dtype, device: torch.device) -> Iterator[Made]:
    """A contender and its network before the update of each of its steps."""
    base = network(precision, device)
    base.model.to(masters)
    step = contender(name, base, precision, BATCH)
    assert isinstance(step, OwnStep | FlaStep)
    while True:
        *before, update = parts_of(step).values()
        for part in before:
            part()
        yield step, base
        update()


F32, F64 = torch.float32, torch.float64
FORMS = [("fp32", F32), ("fp32", F64), ("bf16", F32)]
"""What is computed in and what the masters are: with float64 ones they are copied, as they are in bf16."""


def rounding(precision: Precision, device: torch.device, exact: float, bf16: float) -> float:
    """How far two right results may be from each other."""
    if precision == "bf16" and device.type == "cpu":
        pytest.skip("Triton's interpreter cannot compute in bfloat16")
    if precision == "fp32" and device.type == "cuda":
        pytest.skip("on a GPU its kernels do not take float32 everywhere, and multiply in TF32")
    return bf16 if precision == "bf16" else exact


@pytest.mark.parametrize(("precision", "masters"), FORMS)
def test_the_losses_are_ours(precision: Precision, masters: torch.dtype, device: torch.device) -> None:
    """Four steps from the same weights: each loss is that of a training, to rounding."""
    most = rounding(precision, device, exact=1e-5, bf16=1e-2)
    curves: dict[str, list[float]] = {}
    for name, dtype in (("no_fs", F32), ("fla", masters)):
        made = steps(name, precision, dtype, device)
        curves[name] = [step.loss.item() for _, (step, _) in zip(range(4), made, strict=False)]
    assert curves["fla"] == pytest.approx(curves["no_fs"], rel=most)
    assert curves["fla"][-1] < curves["fla"][0]


@pytest.mark.parametrize(("precision", "masters"), FORMS)
def test_the_gradients_are_ours(precision: Precision, masters: torch.dtype, device: torch.device) -> None:
    """Of every parameter ||theirs - ours|| / ||ours|| in the first step."""
    most = rounding(precision, device, exact=1e-3, bf16=0.15)
    _, own = next(steps("no_fs", precision, F32, device))
    _, other = next(steps("fla", precision, masters, device))
    for (name, ours), theirs in zip(own.model.named_parameters(), other.model.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and ours.grad.norm() > 0
        assert (theirs.grad.dtype, theirs.grad.shape) == (masters, ours.shape)
        assert (theirs.grad - ours.grad).norm() < most * ours.grad.norm(), name
