"""flash-linear-attention's model with our parameters makes our steps: `bench step --against fla` is fair.

Where flash-linear-attention is installed: on a GPU, or with TRITON_INTERPRET=1 on the CPU, slowly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from fsearch.train.fla_step import FlaStep
from fsearch.train.network import Network
from fsearch.train.recipe import Precision
from fsearch.train.step_contender import OwnStep, Shape, base_network, contender, parts_of, random_batch

SHAPE = Shape(2, 64, 32, vocab_size=19, batch=2, tokens=21)
BATCH = random_batch(2, 21, 19)


@pytest.fixture
def device(kernel_library: object) -> torch.device:
    """Where its kernels run."""
    try:
        version("flash-linear-attention")
    except PackageNotFoundError:
        pytest.skip("flash-linear-attention is not installed")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("without a GPU its kernels run with TRITON_INTERPRET=1 alone")
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


def steps(name: str, precision: Precision, device: torch.device) -> Iterator[Made]:
    """A contender and its network before the update of each of its steps."""
    base = network(precision, device)
    step = contender(name, base, precision, BATCH)
    assert isinstance(step, OwnStep | FlaStep)
    while True:
        *before, update = parts_of(step).values()
        for part in before:
            part()
        yield step, base
        update()


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_the_losses_are_ours(precision: Precision, rounding: float, device: torch.device) -> None:
    """Six steps from the same weights: each loss is that of a training, to rounding."""
    if device.type == "cuda" and precision == "fp32":
        rounding = 1e-3  # Triton multiplies matrices in TF32
    curves: dict[str, list[float]] = {}
    for name in ("no_fs", "fla"):
        made = steps(name, precision, device)
        curves[name] = [step.loss.item() for _, (step, _) in zip(range(6), made, strict=False)]
    print(curves)
    assert curves["fla"] == pytest.approx(curves["no_fs"], rel=rounding)
    assert curves["fla"][-1] < curves["fla"][0]


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-4), ("bf16", 0.1)])
def test_the_gradients_are_ours(precision: Precision, rounding: float, device: torch.device) -> None:
    """Of every parameter, in float32: ||theirs - ours|| / ||ours|| in the first step."""
    if device.type == "cuda" and precision == "fp32":
        rounding = 1e-2
    found = {}
    for name in ("no_fs", "fla"):
        _, base = next(steps(name, precision, device))
        found[name] = {of: parameter.grad for of, parameter in base.model.named_parameters()}
    errors = {}
    for of, ours in found["no_fs"].items():
        theirs = found["fla"][of]
        assert ours is not None and theirs is not None and theirs.shape == ours.shape
        assert theirs.dtype == ours.dtype == torch.float32 and ours.norm() > 0
        errors[of] = float((theirs - ours).norm() / ours.norm())
    print(sorted(errors.items(), key=lambda item: -item[1])[:8])
    assert max(errors.values()) < rounding
