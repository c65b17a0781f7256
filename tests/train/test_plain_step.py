"""The plain step that ours is measured against makes the same steps."""

from __future__ import annotations

import pytest
import torch

from fsearch.train.plain_step import plain_logits
from fsearch.train.recipe import Precision
from fsearch.train.step_contender import Shape, base_network, contender, parts_of, random_batch

SHAPE = Shape(3, 32, 8, vocab_size=11, batch=3, tokens=21)
BATCH = random_batch(3, 21, 11)


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-5), ("bf16", 5e-3)])
@pytest.mark.usefixtures("kernel_library")
def test_the_losses_of_plain_steps_are_ours(precision: Precision, rounding: float) -> None:
    """Eight steps from the same weights: each loss is that of a training, to rounding."""
    torch.set_num_threads(1)
    curves: dict[str, list[float]] = {"no_fs": [], "plain": []}
    for name, curve in curves.items():
        base = base_network(SHAPE, precision, torch.device("cpu"))
        step = contender(name, base, precision, BATCH)
        for _ in range(8):
            for part in parts_of(step).values():
                part()
            curve.append(step.loss.item())
    assert curves["plain"] == pytest.approx(curves["no_fs"], rel=rounding)
    assert curves["plain"][-1] < curves["plain"][0]


def test_plain_logits_are_the_models() -> None:
    """With random parameters everywhere, so that every part of the model moves a logit."""
    model = base_network(SHAPE, "fp32", torch.device("cpu")).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    tokens = torch.from_numpy(BATCH.tokens)
    ours, plain = model(tokens), plain_logits(model, tokens)
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-4)
