"""Who competes in `fsearch bench step`: a training's own step under several variants, and steps of others.

All of them work on the parameters of one model, each with an optimizer of its own.

Deliberately not here: measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fsearch.plan import BASELINE, canonical, schema
from fsearch.plan.variant import parse_name
from fsearch.rwkv7 import FutureSeed
from fsearch.train.batches import Batch
from fsearch.train.fla_step import FlaStep
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.plain_step import PlainStep
from fsearch.train.recipe import Precision, Recipe

LR = 3e-5
PARTS = ("forward", "head", "backward", "update")
"""Of a step. The head's part is its product, its loss and the gradients of both."""

STEPS = 1000  # of the schedule; those measured are fewer
_TARGETS_ARE_THE_LAST = 4  # of so many tokens one: an example ends in its answer


@dataclass(frozen=True)
class Shape:
    """A model, and the batch that is measured unless another is asked for."""

    n_layer: int
    n_embd: int
    head_size: int
    vocab_size: int
    batch: int
    tokens: int


SHAPES = {
    "demo": Shape(3, 32, 8, vocab_size=10, batch=32, tokens=18),
    "small": Shape(3, 256, 64, vocab_size=65536, batch=8, tokens=1024),
    "0.1b": Shape(12, 768, 64, vocab_size=65536, batch=1, tokens=256),
}


class OwnStep:
    """The step of a training."""

    def __init__(self, network: Network, recipe: Recipe, batch: Batch) -> None:
        self._network, self._batch = network, batch
        self._optimization = Optimization(network, recipe, STEPS)
        self._step = 0
        self.loss = torch.zeros(())

    def forward(self) -> None:
        """The layers."""
        self._optimization.zero_grad()
        self._hidden = self._network.hidden_at_targets(self._batch)

    def head(self) -> None:
        """The loss, and its gradient to what the layers gave."""
        trained = len(self._batch.targets)
        self.loss, self._d_hidden = self._network.learn_head(self._hidden, self._batch, trained)

    def backward(self) -> None:
        """The layers' gradients."""
        self._hidden.backward(self._d_hidden)  # type: ignore[no-untyped-call]
        del self._hidden, self._d_hidden

    def update(self) -> None:
        """Clipping and AdamW."""
        self._optimization.update(min(self._step, STEPS - 1), self.loss)
        self._step += 1


Contender = OwnStep | PlainStep | FlaStep

OTHERS: dict[str, type[PlainStep] | type[FlaStep]] = {"plain": PlainStep, "fla": FlaStep}
"""The steps of others, by name."""


def parts_of(contender: Contender) -> dict[str, Callable[[], None]]:
    """The parts of its step, in order."""
    return {part: getattr(contender, part) for part in PARTS if hasattr(contender, part)}


def base_network(shape: Shape, precision: Precision, device: torch.device) -> Network:
    """The baseline's network, with random initial values."""
    job = {
        "model": {"init": {name: getattr(shape, name) for name in ("n_layer", "n_embd", "head_size")}},
        "recipe": {"precision": precision},
        "form": {"gate": "none"},
        "streams": {"init": 0},
    }
    return Network.from_job(job, shape.vocab_size).to(str(device))


def contender(name: str, base: Network, precision: Precision, batch: Batch) -> Contender:
    """The contender of a variant's name, or one of OTHERS, by a plan's default recipe."""
    fields: dict[str, Any] = schema.Recipe(lr=(LR,)).model_dump()
    recipe = Recipe.from_job({**fields, "lr": LR, "precision": precision})
    if name in OTHERS:
        return OTHERS[name](base, recipe, STEPS, batch)
    return OwnStep(_under_variant(base, name), recipe, batch)


def _under_variant(base: Network, name: str) -> Network:
    if name == BASELINE:
        return base
    model = base.model
    form = canonical(parse_name(name), model.n_layer)
    return Network(model, FutureSeed.from_form(form, model.n_head, model.n_embd)).to(str(base.device))


def random_batch(batch: int, tokens: int, vocab_size: int) -> Batch:
    """Examples of random tokens, equally long; the targets of each are its last ones."""
    words = np.random.default_rng(0).integers(vocab_size, size=(batch, tokens))
    num_targets = max(1, tokens // _TARGETS_ARE_THE_LAST)
    first = tokens - num_targets - 1  # the place that gives the first target
    columns = np.arange(first, tokens - 1)
    return Batch(
        tokens=words,
        prompt_len=np.full(batch, first + 1),
        positions=(np.arange(batch)[:, None] * tokens + columns).ravel(),
        targets=words[:, first + 1 :].ravel(),
    )
