"""The seed's gradients against finite differences, and the form it is made from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fsearch.rwkv7 import RWKV7, FutureSeed

from .models import BASELINE, VARIANTS, batch, lively_model, variant

PROMPTS = torch.tensor([5, 8])

SWITCHES: list[dict[str, Any]] = [
    {},
    {"norm": False, "clip": None},
    {"norm": False, "clip": 0.05},
    {"clip": 0.3},
    {"gate": "head"},
    {"gate": "head", "norm": False, "clip": 0.1},
]


def loss(model: RWKV7, future_seed: FutureSeed | None) -> Tensor:
    logits: Tensor = model(batch([9, 12]), PROMPTS, future_seed)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=logits.dtype)
    return (logits * weights).mean()


def finite_difference(model: RWKV7, future_seed: FutureSeed, entry: Tensor, step: float = 1e-5) -> float:
    """Central difference of the loss by one entry, a zero-dimensional view, of a parameter."""
    values = []
    with torch.no_grad():
        before = entry.item()
        for signed in (step, -step):
            entry.fill_(before + signed)
            values.append(loss(model, future_seed).item())
        entry.fill_(before)
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("detach", [True, False], ids=["detach", "through"])
@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_gate_gradients_are_the_slopes(changes: dict[str, Any], detach: bool) -> None:
    """On two layers in double, the gradient of every gate is the loss's slope, detached or not."""
    model = lively_model(n_layer=2).double()
    future_seed = FutureSeed.from_form(variant({"1": 0.9}, 0.3, alpha_lr=1.0, detach=detach, **changes), 2)
    assert future_seed is not None
    future_seed.double()
    loss(model, future_seed).backward()
    assert future_seed.alpha.grad is not None
    for gate, gradient in zip(future_seed.alpha[0], future_seed.alpha.grad[0], strict=True):
        assert gradient.item() != 0
        assert gradient.item() == pytest.approx(finite_difference(model, future_seed, gate), rel=1e-6)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_the_seed_teaches_the_layer_below(changes: dict[str, Any]) -> None:
    """Without detach, layer 0's gradients are the loss's slopes; with it, the seed's share is missing."""
    model = lively_model(n_layer=2).double()
    watched = model.blocks[0].get_parameter("att.w0")
    gradients = {}
    for detach in (False, True):
        form = variant({"1": 0.9}, 0.3, detach=detach, **changes)
        future_seed = FutureSeed.from_form(form, 2)
        assert future_seed is not None
        model.zero_grad()
        loss(model, future_seed.double()).backward()
        assert watched.grad is not None
        gradients[detach] = watched.grad[0, 0].clone()
        if not detach:
            for channel in (1, 6, 12):
                slope = finite_difference(model, future_seed, watched[0, 0, channel])
                assert gradients[detach][channel].item() == pytest.approx(slope, rel=1e-5, abs=1e-10)
    assert (gradients[True] - gradients[False]).abs().max() > 1e-6


def test_seed_follows_its_formula() -> None:
    """Norm, then gate, then clip; an empty state stays empty, an almost empty one is not blown up."""
    captured = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    captured[0, 1] = 0
    captured[1, 1] *= 1e-8
    form = variant({"1": 0.4, "2": 1.0}, -1.0, gate="head", clip=0.2, alpha_lr=0.1)
    future_seed = FutureSeed.from_form(form, 2)
    assert future_seed is not None
    with torch.no_grad():
        future_seed.alpha[0, 1] = 3.0
        made = future_seed.seed(1, captured)
    for b in range(2):
        for h, alpha in enumerate((-1.0, 3.0)):
            size = captured[b, h].pow(2).mean().sqrt().clamp_min(1e-6)
            gate = 0.4 / (1 + torch.tensor(-alpha).exp())
            expected = (captured[b, h] / size * gate).clamp(-0.2, 0.2)
            torch.testing.assert_close(made[b, h], expected)


def test_baseline_has_no_future_seed() -> None:
    """The gate "none" makes no object at all."""
    assert FutureSeed.from_form(BASELINE, 2) is None


@pytest.mark.parametrize(("name", "shape"), [("schedule", (2, 1)), ("head", (2, 4)), ("last", (1, 1))])
def test_gates_have_their_shape(name: str, shape: tuple[int, int]) -> None:
    """One logit a seeded layer, or one a seeded layer and head, all at the form's alpha, float32."""
    future_seed = FutureSeed.from_form(VARIANTS[name], 4)
    assert future_seed is not None
    assert future_seed.alpha.shape == shape
    assert future_seed.alpha.dtype == torch.float32
    assert (future_seed.alpha == VARIANTS[name]["alpha"]).all()


def test_fixed_gates_are_no_parameters() -> None:
    """A gate without learning rate is a buffer: nothing can train it, and no optimizer sees it."""
    fixed = FutureSeed.from_form(variant({"1": 1.0}, -2.0), 2)
    trained = FutureSeed.from_form(variant({"1": 1.0}, -2.0, alpha_lr=0.1), 2)
    assert fixed is not None and trained is not None
    assert [name for name, _ in fixed.named_parameters()] == []
    assert [name for name, _ in trained.named_parameters()] == ["alpha"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"layers": {"0": 1.0}}, "below"),
        ({"clip": 0.0}, "null"),
        ({"alpha_lr": -0.1}, "alpha_lr"),
        ({"gate": "input"}, "'input'"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], word: str) -> None:
    """What a form cannot mean is a ValueError that says what is wrong."""
    with pytest.raises(ValueError, match=word):
        FutureSeed.from_form(variant({"1": 1.0}, -2.0) | changes, 2)


def test_a_seed_needs_prompt_lengths() -> None:
    """Without prompt lengths there is no end of the prompt to capture at; the model says so."""
    with pytest.raises(ValueError, match="prompt_len"):
        lively_model()(batch([4]), None, FutureSeed.from_form(VARIANTS["raw"], 2))
