"""What must be the baseline to the bit, and what must not be taken for it, over 20 steps of training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fsearch.rwkv7 import FutureSeed, parameter_groups, weights_sha256

from .models import BASELINE, batch, fresh_model, variant

pytestmark = pytest.mark.usefixtures("backend")


def train(form: dict[str, Any], steps: int = 20) -> tuple[list[float], str]:
    """Losses of a fresh model's first steps on one batch, and its weights' hash after them."""
    model = fresh_model()
    future_seed = FutureSeed.from_form(form, model.n_head)
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
    return losses, weights_sha256(model)


@pytest.mark.parametrize("layers", [{}, {"3": 1.0}], ids=["none", "beyond the model"])
def test_no_seeded_layer_is_the_baseline(layers: dict[str, float]) -> None:
    """A Future-Seed that seeds no layer of the model leaves losses and weights alone, to the bit."""
    assert train(variant(layers, 2.0, alpha_lr=0.05)) == train(BASELINE)


def test_training_repeats() -> None:
    """The same run twice gives the same bits, also with a seed."""
    form = variant({"1": 1.0, "2": 1.0}, 2.0, detach=False, alpha_lr=0.05)
    assert train(form) == train(form)


@pytest.mark.parametrize("alpha", [2.0, -8.0], ids=["strong", "weak"])
def test_a_seed_from_scratch_is_not_a_no_op(alpha: float) -> None:
    """At the official first values no seed reaches a logit: the first loss agrees, the later ones do not."""
    losses, weights = train(variant({"1": 1.0, "2": 1.0}, alpha, norm=False, detach=False, clip=None))
    baseline_losses, baseline_weights = train(BASELINE)
    assert losses[0] == baseline_losses[0]
    assert losses != baseline_losses
    assert weights != baseline_weights
