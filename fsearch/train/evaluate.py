"""Scores of a network on validation examples: each example exactly once, in the stored order.

Counts and losses are kept per example and only then put together, so no figure depends on how the examples
were grouped into batches, apart from the rounding of the forward pass itself.

Deliberately not here: when to evaluate, which half, and the figures that only one task has (see `metrics`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fsearch.train.batches import Examples, Integers
from fsearch.train.network import Network

EVALUATION_FACTOR = 4
"""Micro-batches in an evaluation batch: without gradients so many fit where one training step does."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What n examples came to, in the order they were given."""

    correct: NDArray[np.int32]  # [n], scored tokens that are the arg max of their logits
    total: NDArray[np.int32]  # [n], scored tokens
    loss: NDArray[np.float64]  # [n], cross-entropy in nats, summed over the example's scored tokens
    predicted: NDArray[np.int32]  # [K], the arg max at every scored token, example after example
    choice_logits: NDArray[np.float32] | None  # [K, C], logits of the tokens asked for; None if none were

    @property
    def score(self) -> float:
        """Mean over examples of the share of right tokens."""
        return math.fsum(self.correct / self.total) / len(self.total)

    @property
    def acc_pooled(self) -> float:
        """Share of right tokens over all tokens of all examples."""
        return int(self.correct.sum()) / int(self.total.sum())

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy over all tokens of all examples, in nats; not finite if any is not."""
        if not np.isfinite(self.loss).all():
            return math.nan
        return math.fsum(self.loss) / int(self.total.sum())

    def packed(self) -> dict[str, str]:
        """The arrays as base64 of their little-endian bytes: int32, int32, float64."""
        arrays = {
            "correct": self.correct.astype("<i4"),
            "total": self.total.astype("<i4"),
            "loss": self.loss.astype("<f8"),
        }
        return {name: base64.b64encode(array.tobytes()).decode("ascii") for name, array in arrays.items()}


def evaluate(
    network: Network,
    examples: Examples,
    indices: Integers,
    batch_size: int,
    before_batch: Callable[[], None],
    choice_tokens: NDArray[np.int32] | None = None,
) -> Scores:
    """Score the examples `indices` in batches of `batch_size`; `before_batch` may raise to end it early.

    Of all logits only those of `choice_tokens` [C] are kept, and none without them.
    """
    parts = []
    for start in range(0, len(indices), batch_size):
        before_batch()
        some = indices[start : start + batch_size]
        parts.append(_evaluate_batch(network, examples, some, choice_tokens))
    choice_logits = [part.choice_logits for part in parts if part.choice_logits is not None]
    return Scores(
        correct=np.concatenate([part.correct for part in parts]),
        total=np.concatenate([part.total for part in parts]),
        loss=np.concatenate([part.loss for part in parts]),
        predicted=np.concatenate([part.predicted for part in parts]),
        choice_logits=np.concatenate(choice_logits) if choice_logits else None,
    )


@torch.no_grad()
def _evaluate_batch(
    network: Network, examples: Examples, indices: Integers, choice_tokens: NDArray[np.int32] | None
) -> Scores:
    batch = examples.batch(indices)
    hidden, targets = network.hidden_at_targets(batch), network.tensor(batch.targets)
    chosen = None if choice_tokens is None else network.tensor(choice_tokens)
    predictions, costs, choices = [], [], []
    for at_targets, wanted in zip(network.in_chunks(hidden), network.in_chunks(targets), strict=True):
        logits = network.logits(at_targets)
        predictions.append(logits.argmax(-1))
        costs.append(F.cross_entropy(logits, wanted, reduction="none"))
        if chosen is not None:
            choices.append(logits.index_select(-1, chosen))
    predicted = torch.cat(predictions).cpu().numpy()
    right = predicted == batch.targets
    losses = torch.cat(costs).double().cpu().numpy()
    rows, count = batch.rows, len(indices)
    return Scores(
        correct=np.bincount(rows, weights=right, minlength=count).astype(np.int32),
        total=np.bincount(rows, minlength=count).astype(np.int32),
        loss=np.bincount(rows, weights=losses, minlength=count).astype(np.float64),
        predicted=predicted.astype(np.int32),
        choice_logits=torch.cat(choices).cpu().numpy() if choices else None,
    )
