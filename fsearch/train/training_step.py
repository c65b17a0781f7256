"""One optimizer step, over micro-batches, with one wait for the device: for its loss, at the end.

Deliberately not here: which examples a step has, and what follows from its loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from fsearch.train.batches import Batch
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization


def make_step(
    network: Network,
    optimization: Optimization,
    batches: Iterable[Batch],
    trained_tokens: int,
    step: int,
    before_update: Callable[[], None],
) -> float:
    """Make step `step`, counted from 0, over the micro-batches' `trained_tokens` targets.

    Returns its loss per target, in nats. Where that is not finite, no parameter has moved.
    """
    loss = torch.zeros((), device=network.device)
    optimization.zero_grad()
    for batch in batches:
        loss += network.learn(batch, trained_tokens)
    before_update()
    optimization.update(step, loss)
    return loss.item()
