"""The seed's gradients against finite differences, and the form it is made from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fsearch.plan import Variant, canonical
from fsearch.plan.variant import parse_name
from fsearch.rwkv7 import RWKV7, FutureSeed

from .models import BASELINE, VARIANTS, batch, generator, lively_model, lively_seed, variant

PROMPTS = torch.tensor([5, 8])

SWITCHES: list[dict[str, Any]] = [
    {},
    {"norm": False, "clip": None},
    {"norm": False, "clip": 0.05},
    {"clip": 0.3},
    {"gate": "head"},
    {"gate": "head", "norm": False, "clip": 0.1},
    {"gate": "input", "weight_lr": 1.0, "bias_lr": 1.0},
    {"gate": "input", "weight_lr": 1.0, "bias_lr": 1.0, "norm": False, "clip": 0.05},
    {"gate": "head", "alpha_head": -0.4, "alpha_head_lr": 1.0},
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
    """On two layers in double, the gradient of every entry that a gate trains is the loss's slope."""
    model = lively_model(n_layer=2).double()
    future_seed = lively_seed(variant({"1": 0.9}, 0.3, alpha_lr=1.0, detach=detach, **changes))
    assert future_seed is not None
    future_seed.double()
    loss(model, future_seed).backward()
    trained = dict(future_seed.named_parameters())
    assert trained.keys() == future_seed.state_dict().keys()
    for parameter in trained.values():
        assert parameter.grad is not None
        for entry, gradient in zip(parameter[0], parameter.grad[0], strict=True):
            assert gradient.item() != 0
            slope = finite_difference(model, future_seed, entry)
            assert gradient.item() == pytest.approx(slope, rel=1e-6, abs=1e-11)


class Frozen(FutureSeed):
    """Makes its seed from the first state it was given, whatever comes later: what `detach` stands for."""

    kept: Tensor | None = None

    def seed(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = captured.detach()
        return super().seed(layer, self.kept if self.detach else captured, x, prompt_len)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_the_seed_teaches_the_layer_below(changes: dict[str, Any]) -> None:
    """Layer 0's gradients are the loss's slopes; with detach, those of a captured state that stays as it is.

    An input gate so teaches the layer below also with detach: through the input it looks at.
    """
    model = lively_model(n_layer=2).double()
    watched = model.blocks[0].get_parameter("att.w0")
    gradients = {}
    for detach in (False, True):
        form = variant({"1": 0.9}, 0.3, detach=detach, **changes)
        future_seed = lively_seed(form, Frozen)
        assert future_seed is not None
        model.zero_grad()
        loss(model, future_seed.double()).backward()
        assert watched.grad is not None
        gradients[detach] = watched.grad[0, 0].clone()
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
    future_seed = FutureSeed.from_form(form, 2, 16)
    assert future_seed is not None
    with torch.no_grad():
        future_seed.alpha[0, 1] = 3.0
        made = future_seed.seed(1, captured, torch.zeros(2, 3, 16), torch.tensor([1, 3]))
    for b in range(2):
        for h, alpha in enumerate((-1.0, 3.0)):
            size = captured[b, h].pow(2).mean().sqrt().clamp_min(1e-6)
            gate = 0.4 / (1 + torch.tensor(-alpha).exp())
            expected = (captured[b, h] / size * gate).clamp(-0.2, 0.2)
            torch.testing.assert_close(made[b, h], expected)


def test_an_input_gate_reads_the_last_prompt_token_alone() -> None:
    """Each sample's gate is sigmoid(alpha + <x, w> / sqrt(C) + b), x at its own last prompt token."""
    captured = torch.ones(3, 2, 8, 8)
    x = torch.randn(3, 6, 16, generator=generator(1))
    prompts = torch.tensor([6, 2, 0])
    future_seed = lively_seed(VARIANTS["input"])
    assert future_seed is not None
    with torch.no_grad():
        made = future_seed.seed(2, captured, x, prompts)
        for b, last in enumerate((x[0, 5], x[1, 1], torch.zeros(16))):  # an empty prompt has no last token
            logit = 0.2 + future_seed.weight[1] @ last / 4 + 0.3
            torch.testing.assert_close(made[b], 0.8 * torch.sigmoid(logit).expand(2, 8, 8))
        x[0, :5], x[1, 2:], x[1, :1], x[2] = 9.0, 9.0, 9.0, 9.0
        assert torch.equal(future_seed.seed(2, captured, x, prompts), made)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("form", VARIANTS.values(), ids=VARIANTS.keys())
def test_an_empty_prompt_seeds_nothing(form: dict[str, Any]) -> None:
    """A sample without a prompt has the baseline's logits, beside one that has a prompt and has not."""
    model, tokens, prompts = lively_model(), batch([9, 12]), torch.tensor([0, 8])
    with torch.no_grad():
        seeded = model(tokens, prompts, lively_seed(form))
        baseline = model(tokens)
    torch.testing.assert_close(seeded[0], baseline[0], rtol=0, atol=2e-6)
    assert (seeded[1] - baseline[1]).abs().max() > 1e-3


def form_of(variant: Variant) -> dict[str, Any]:
    return canonical(variant, 3)


@pytest.mark.usefixtures("backend")
def test_an_input_gate_starts_as_the_scalar_gate() -> None:
    """Before its first step `inputgate_l1` gives the logits of `scalar_l1`, to the bit."""
    model, tokens, prompts = lively_model(), batch([9, 12]), torch.tensor([5, 8])
    with torch.no_grad():
        by_input, scalar = (
            model(tokens, prompts, FutureSeed.from_form(form_of(parse_name(name)), 2, 16))
            for name in ("inputgate_l1", "scalar_l1")
        )
    assert torch.equal(by_input, scalar)


def test_the_head_gate_is_ours_and_with_compat_theirs() -> None:
    """A head gate at -2 weighs 0.1192; the drafts' product of two gates at -3 weighs 0.00225."""
    theirs = Variant(name="theirs", gate="head", layer_start=2, compat="drafts")
    for its, expected in ((parse_name("head_l2"), 0.1192), (theirs, 0.00225)):
        future_seed = FutureSeed.from_form(form_of(its), 2, 16)
        assert future_seed is not None
        made = future_seed.seed(2, torch.ones(1, 2, 8, 8), torch.zeros(1, 4, 16), torch.tensor([4]))
        torch.testing.assert_close(made, torch.full((1, 2, 8, 8), expected), rtol=1e-3, atol=0)
    assert future_seed is not None and future_seed.learning_rates == {"alpha_head": 5e-4}


def test_baseline_has_no_future_seed() -> None:
    """The gate "none" makes no object at all."""
    assert FutureSeed.from_form(BASELINE, 2, 16) is None


@pytest.mark.parametrize(
    ("name", "shape"),
    [("schedule", (2, 1)), ("head", (2, 4)), ("last", (1, 1)), ("input", (2, 1)), ("multiplied", (2, 1))],
)
def test_gates_have_their_shape(name: str, shape: tuple[int, int]) -> None:
    """One logit a seeded layer, or one a seeded layer and head, all at the form's alpha, float32."""
    future_seed = FutureSeed.from_form(VARIANTS[name], 4, 32)
    assert future_seed is not None
    assert future_seed.alpha.shape == shape
    assert future_seed.alpha.dtype == torch.float32
    assert (future_seed.alpha == VARIANTS[name]["alpha"]).all()


def test_fixed_gates_are_no_parameters() -> None:
    """A gate without learning rate is a buffer: nothing can train it, and no optimizer sees it."""
    fixed = FutureSeed.from_form(variant({"1": 1.0}, -2.0), 2, 16)
    trained = FutureSeed.from_form(variant({"1": 1.0}, -2.0, alpha_lr=0.1), 2, 16)
    assert fixed is not None and trained is not None
    assert [name for name, _ in fixed.named_parameters()] == []
    assert [name for name, _ in trained.named_parameters()] == ["alpha"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"layers": {"0": 1.0}}, "below"),
        ({"clip": 0.0}, "null"),
        ({"alpha_lr": -0.1}, "alpha_lr"),
        ({"gate": "input", "weight_lr": 0.1, "bias_lr": -0.1}, "bias_lr"),
        ({"gate": "depth"}, "'depth'"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], word: str) -> None:
    """What a form cannot mean is a ValueError that says what is wrong."""
    with pytest.raises(ValueError, match=word):
        FutureSeed.from_form(variant({"1": 1.0}, -2.0) | changes, 2, 16)


def test_a_seed_needs_prompt_lengths() -> None:
    """Without prompt lengths there is no end of the prompt to capture at; the model says so."""
    with pytest.raises(ValueError, match="prompt_len"):
        lively_model()(batch([4]), None, FutureSeed.from_form(VARIANTS["raw"], 2, 16))
