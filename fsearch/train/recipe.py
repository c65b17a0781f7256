"""How an attempt trains: the recipe of its job and the learning-rate schedule, as pure functions.

Deliberately not here: the optimizer and its parameter groups, which only take these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Decay = Literal["none", "linear", "cosine"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The numbers of AdamW and its schedule, and what is computed in.

    `warmup` and `decay_from` are fractions of the steps, `final_lr` is one of `lr`. `grad_clip` is a largest
    gradient norm, None for no clipping.
    """

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    grad_clip: float | None
    warmup: float
    decay: Decay
    decay_from: float
    final_lr: float
    precision: Precision

    @classmethod
    def from_job(cls, fields: Mapping[str, Any]) -> Recipe:
        """The recipe of a job. Raises ValueError for a precision or a decay that there is not."""
        if fields["precision"] not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, not {fields['precision']!r}")
        if fields["decay"] not in ("none", "linear", "cosine"):
            raise ValueError(f"decay must be none, linear or cosine, not {fields['decay']!r}")
        first, second = fields["betas"]
        return cls(
            lr=fields["lr"],
            weight_decay=fields["weight_decay"],
            betas=(first, second),
            grad_clip=fields["grad_clip"],
            warmup=fields["warmup"],
            decay=fields["decay"],
            decay_from=fields["decay_from"],
            final_lr=fields["final_lr"],
            precision=fields["precision"],
        )


def lr_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of optimizer step `step` (0 .. steps - 1), as a fraction of the recipe's `lr`.

    A linear rise over the first `warmup` of the steps, then 1, then from `decay_from` on a straight line or
    half a cosine down to `final_lr`, which the last step has exactly.
    """
    done = step + 1
    rise = min(1.0, done / (recipe.warmup * steps)) if recipe.warmup > 0 else 1.0
    start = recipe.decay_from * steps
    if recipe.decay == "none" or done <= start:
        return rise
    progress = (done - start) / (steps - start)
    if recipe.decay == "cosine":
        progress = (1 - math.cos(math.pi * progress)) / 2
    return rise * (1 + (recipe.final_lr - 1) * progress)
