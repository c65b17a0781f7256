"""The difference between a variant and its baseline, and what a screen decides on it.

A difference exists only between rows that match. There is no other way to form one here, so a
comparison across stages, batches, seeds, data or fingerprints cannot be written by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from fsearch.plan import BASELINE_FORM
from fsearch.search.rows import Attempt

Decision = Literal["keep", "prune"]

MATCHED = (
    "task",
    "arguments",
    "model",
    "recipe",
    "batch",
    "micro_batch",
    "role",
    "steps",
    "look_step",
    "halves",
    "completions",
    "seed",
    "master_seed",
)

_matched = attrgetter(*MATCHED)


def comparable(attempt: Attempt) -> dict[str, Any]:
    """By name, all that must be equal in two rows that are compared."""
    return {**{name: getattr(attempt.spec, name) for name in MATCHED}, "fingerprint": attempt.fingerprint}


class Unmatched(ValueError):
    """Two rows that may not be compared, with the fields in which they differ."""


def d_acc(variant: Attempt, baseline: Attempt) -> float:
    """Score of the variant minus score of its matched baseline, both at the last step.

    Raises:
        Unmatched: the rows differ in something that must be equal, or one has no score.
    """
    if baseline.spec.form != BASELINE_FORM:
        raise Unmatched(f"{baseline.spec.variant} is not a baseline")
    if (_matched(variant.spec), variant.fingerprint) != (_matched(baseline.spec), baseline.fingerprint):
        wanted = comparable(baseline)
        differing = [name for name, value in comparable(variant).items() if value != wanted[name]]
        pair = f"{variant.spec.variant} and {baseline.spec.variant}"
        raise Unmatched(f"{pair} differ in {', '.join(differing)}: they may not be compared")
    if variant.score is None or baseline.score is None:
        raise Unmatched(f"{variant.spec.variant} or its baseline has no score")
    return variant.score - baseline.score


def apart(variant: Attempt, baseline: Attempt) -> bool:
    """Whether two rows that may be compared ran on different machines, though of one kind and software."""
    return variant.node != baseline.node


@dataclass(frozen=True, slots=True)
class Tie:
    """Rows of one stage and seed with one score and different losses: what is scored tells them not apart."""

    stage: str
    seed: int
    score: float
    variants: tuple[str, ...]  # the baseline among them, if it is


def tied(stage: str, seed: int, rows: Iterable[Attempt]) -> list[Tie]:
    """The ties among rows that belong to one comparison. Equal losses too are no tie but a replay."""
    by_score: dict[float, list[Attempt]] = {}
    for row in rows:
        if row.score is not None:
            by_score.setdefault(row.score, []).append(row)
    return [
        Tie(stage, seed, score, tuple(row.spec.variant for row in some))
        for score, some in by_score.items()
        if len({row.loss for row in some}) > 1
    ]


def decide(difference: float, prune_below: float) -> Decision:
    """Keep at or above the threshold; an exact tie is always pruned."""
    return "keep" if difference >= prune_below and difference != 0.0 else "prune"


def promote(kept: dict[str, float], at_most: int | None) -> list[str]:
    """The names that go on to confirmation: the best by d_acc, in the order of the plan."""
    ranked = sorted(kept, key=lambda name: -kept[name])
    chosen = set(ranked[:at_most])
    return [name for name in kept if name in chosen]
