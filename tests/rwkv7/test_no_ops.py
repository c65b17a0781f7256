"""What must be the baseline to the bit, and what must not be taken for it, over 20 steps of training."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fsearch.plan import Variant, canonical, noop_reason
from fsearch.plan.variant import parse_name, schedule_multiplier
from fsearch.rwkv7 import FutureSeed, parameter_groups, weights_sha256

from .models import BASELINE, batch, fresh_model, variant

pytestmark = pytest.mark.usefixtures("backend")


def train(form: dict[str, Any], steps: int = 20) -> tuple[list[float], str, bytes]:
    """Losses of a fresh model's first steps on one batch, its weights' hash and its logits after them."""
    model = fresh_model()
    future_seed = FutureSeed.from_form(form, model.n_head, model.n_embd)
    groups = parameter_groups(model, future_seed, lr=5e-3, weight_decay=0.01)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    tokens, prompts = batch([12] * 4), torch.full((4,), 9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        hidden = model.hidden(tokens, prompts, future_seed)
        loss = F.cross_entropy(model.head(hidden[:, 8:11]).flatten(0, 1), tokens[:, 9:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        logits = model(tokens, prompts, future_seed)
    return losses, weights_sha256(model), logits.numpy().tobytes()


@cache
def trained_baseline(backend: str) -> tuple[list[float], str, bytes]:
    return train(BASELINE)


def literal_form(variant: Variant) -> dict[str, Any]:
    """What a variant asks for at its word: factors of zero are multiplied by, and layers that the model
    does not have are asked for. The canonical form leaves both out."""
    layers = range(max(1, variant.layer_start), 5)
    factors = {str(i): variant.scale * schedule_multiplier(variant, i, 3) for i in layers}
    elsewhere = variant.model_copy(update={"layer_start": 1, "scale": 1.0, "schedule": "none"})
    return {**canonical(elsewhere, 3), "layers": factors}


GATES: dict[str, dict[str, Any]] = {
    "scalar": {"alpha": 2.0, "alpha_lr": 0.05, "detach": False},
    "head": {"gate": "head", "alpha_lr": 0.05, "norm": False, "clip": None},
    "input": {"gate": "input", "weight_lr": 0.05, "bias_lr": 0.05, "detach": False},
    "drafts": {"gate": "head", "compat": "drafts", "alpha_head_lr": 0.05},
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    "silent",
    [
        {"layer_start": 3},
        {"scale": 0.0},
        {"layer_start": 2, "schedule": "linear", "schedule_max": 0.0},
    ],
    ids=["beyond the model", "scale 0", "schedule to 0"],
)
def test_a_static_no_op_would_train_the_baseline(gate: str, silent: dict[str, Any], backend: str) -> None:
    """What is called a no-op unseen gives the baseline's logits, losses and weights when it is trained.

    At its word with the compiled kernel; the portable one rounds around a capture, whose seed may be zero.
    """
    variant = Variant(name="v", **GATES[gate], **silent)
    assert noop_reason(variant, 3) is not None
    assert FutureSeed.from_form(canonical(variant, 3), 2, 16) is None
    form = literal_form(variant) if backend == "auto" else canonical(variant, 3)
    assert train(form) == trained_baseline(backend)


@pytest.mark.parametrize("layers", [{}, {"3": 1.0}], ids=["none", "beyond the model"])
def test_no_seeded_layer_is_the_baseline(layers: dict[str, float]) -> None:
    """A Future-Seed that seeds no layer of the model leaves losses and weights alone, to the bit."""
    assert train(variant(layers, 2.0, alpha_lr=0.05)) == train(BASELINE)


def test_training_repeats() -> None:
    """The same run twice gives the same bits, also with a seed."""
    form = variant({"1": 1.0, "2": 1.0}, 2.0, detach=False, alpha_lr=0.05)
    assert train(form) == train(form)


@pytest.mark.parametrize(
    "form",
    [
        variant({"1": 1.0, "2": 1.0}, 2.0, norm=False, detach=False, clip=None),
        variant({"1": 1.0, "2": 1.0}, -8.0, norm=False, detach=False, clip=None),
        canonical(parse_name("inputgate_l1"), 3),
        canonical(Variant(name="theirs", gate="head", compat="drafts"), 3),
    ],
    ids=["strong", "weak", "input", "drafts"],
)
def test_a_seed_from_scratch_is_not_a_no_op(form: dict[str, Any], backend: str) -> None:
    """At the official first values no seed reaches a logit: the first loss agrees, the later ones do not."""
    losses, weights, _ = train(form)
    baseline_losses, baseline_weights, _ = trained_baseline(backend)
    assert losses[0] == baseline_losses[0]
    assert losses != baseline_losses
    assert weights != baseline_weights
