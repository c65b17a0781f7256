"""The model against token-by-token float64 loops that know nothing of batches, padding or captures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fsearch.rwkv7 import RWKV7

from . import reference
from .models import BASELINE, VARIANTS, batch, lively_model, lively_seed

pytestmark = pytest.mark.usefixtures("backend")

LENGTHS = [13, 20, 9]
PROMPTS = torch.tensor([8, 13, 9])
FORMS = {"baseline": BASELINE} | VARIANTS


def disagreement(
    model: RWKV7, against: RWKV7, form: dict[str, Any], dtype: torch.dtype = torch.float32
) -> float:
    """Largest difference of a logit of `model` from the reference with the weights of `against`, relative."""
    tokens = batch(LENGTHS)
    future_seed = lively_seed(form)
    model.to(dtype)
    gates: dict[str, Any] = {}
    if future_seed is not None:
        future_seed.to(dtype)
        gates = {name: value.double().numpy() for name, value in future_seed.state_dict().items()}
    with torch.no_grad():
        ours = model(tokens, PROMPTS, future_seed).double().numpy()
    weights = {name: value.detach().double().numpy() for name, value in against.named_parameters()}
    worst = 0.0
    for row, length, prompt_len, logits in zip(tokens, LENGTHS, PROMPTS, ours, strict=True):
        theirs = reference.logits(weights, form, gates, row[:length].tolist(), int(prompt_len))
        worst = max(worst, float(np.abs(logits[:length] - theirs).max() / np.abs(theirs).max()))
    return worst


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_logits_equal_the_reference(form: dict[str, Any]) -> None:
    """One batched pass with a capture gives the logits of two passes, prompt then answer, per sample."""
    model = lively_model()
    assert disagreement(model, model, form) < 1e-5


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_logits_equal_the_reference_in_double(form: dict[str, Any]) -> None:
    """In float64 nothing is left of the difference: the formulas are the same, not only close."""
    model = lively_model()
    assert disagreement(model, model, form, torch.float64) < 1e-11


@pytest.mark.parametrize("adapter", "wavg")
def test_swapped_adapter_factors_are_seen(adapter: str) -> None:
    """An adapter applied as act(x @ W2.T) @ W1.T fits every shape, but not the reference."""
    model, swapped = lively_model(), lively_model()
    with torch.no_grad():
        for block in list(swapped.blocks)[1:]:
            inner = getattr(block.att, f"{adapter}1")
            outer = getattr(block.att, f"{adapter}2")
            exchanged = outer.T.clone(), inner.T.clone()
            inner.copy_(exchanged[0])
            outer.copy_(exchanged[1])
    assert disagreement(swapped, model, BASELINE) > 1e-3


def test_every_variant_differs_from_the_baseline() -> None:
    """The comparisons above can tell the variants apart."""
    model, tokens = lively_model(), batch(LENGTHS)
    with torch.no_grad():
        logits = [model(tokens, PROMPTS, lively_seed(form)) for form in FORMS.values()]
    for i, ours in enumerate(logits):
        for others in logits[:i]:
            assert (ours - others).abs().max() > 1e-3
