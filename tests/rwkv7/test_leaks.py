"""What no logit and no seed may know: later answer tokens, padding, other samples.

To the bit with the compiled kernel; the portable one rounds a chunk's products around its middle token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fsearch.rwkv7 import FutureSeed

from .models import BASELINE, VARIANTS, batch, lively_model, lively_seed

LENGTHS = [15, 20, 7]
PROMPTS = torch.tensor([9, 14, 7])  # the last sample is all prompt
Same = Callable[[Tensor, Tensor], bool]

every_variant = pytest.mark.parametrize("form", [BASELINE, *VARIANTS.values()], ids=["baseline", *VARIANTS])


@pytest.fixture
def same(backend: str) -> Same:
    """Whether two results are one, on the backend of the test."""
    return torch.equal if backend == "auto" else lambda x, y: torch.allclose(x, y, rtol=0, atol=2e-6)


class Recorder(FutureSeed):
    """A Future-Seed that remembers the seeds it made."""

    seeds: list[Tensor]

    def seed(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        made = super().seed(layer, captured, x, prompt_len)
        self.seeds.append(made)
        return made


@torch.no_grad()
def run(form: dict[str, Any], tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits [B, T, V] and the seeds [B, H, N, N] of the seeded layers."""
    model = lively_model()
    future_seed = lively_seed(form, Recorder)
    if future_seed is None:
        return model(tokens, PROMPTS), []
    future_seed.seeds = []
    logits = model(tokens, PROMPTS, future_seed)
    assert len(future_seed.seeds) == len(form["layers"])
    return logits, future_seed.seeds


@every_variant
def test_answer_tokens_do_not_leak(form: dict[str, Any], same: Same) -> None:
    """Changing answer token t changes no seed and no logit before t, but changes the logits at t."""
    tokens = batch(LENGTHS)
    logits, seeds = run(form, tokens)
    for t in range(9, 15):  # the answer of sample 0
        changed = tokens.clone()
        changed[0, t] = changed[0, t] % 10 + 1
        new_logits, new_seeds = run(form, changed)
        assert same(new_logits[0, :t], logits[0, :t])
        assert not same(new_logits[0, t], logits[0, t])
        for new, old in zip(new_seeds, seeds, strict=True):
            assert same(new, old)


@every_variant
def test_padding_changes_nothing(form: dict[str, Any], same: Same) -> None:
    """The contents of padding reach no logit of a real token and no seed, even right after the prompt."""
    tokens = batch(LENGTHS)
    logits, seeds = run(form, tokens)
    padded = tokens.clone()
    for row, length in zip(padded, LENGTHS, strict=True):
        row[length:] = 10
    new_logits, new_seeds = run(form, padded)
    for b, length in enumerate(LENGTHS):
        assert same(new_logits[b, :length], logits[b, :length])
    assert not same(new_logits, logits)
    for new, old in zip(new_seeds, seeds, strict=True):
        assert same(new, old)


@every_variant
def test_samples_are_independent(form: dict[str, Any], same: Same) -> None:
    """A sample's logits do not depend on what the other samples of its batch hold."""
    tokens = batch(LENGTHS)
    logits, _ = run(form, tokens)
    changed = tokens.clone()
    changed[[0, 2]] = changed[[0, 2]].flip(1)
    new_logits, _ = run(form, changed)
    assert same(new_logits[1], logits[1])
    assert not same(new_logits[0], logits[0])


@pytest.mark.parametrize("form", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_last_prompt_token_reaches_the_first_position(form: dict[str, Any], same: Same) -> None:
    """Future-Seed at work: within the prompt the model sees ahead. Without it, it does not."""
    tokens = batch(LENGTHS)
    changed = tokens.clone()
    changed[0, 8] = changed[0, 8] % 10 + 1
    assert not same(run(form, changed)[0][0, 0], run(form, tokens)[0][0, 0])
    assert same(run(BASELINE, changed)[0][0, :8], run(BASELINE, tokens)[0][0, :8])
