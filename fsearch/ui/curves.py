"""Learning curves: what each training of a plan scored on the way, always on one half of the examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fsearch.search.rows import Half, Role
from fsearch.store.records import Evaluation
from fsearch.ui.rows import Row

EvaluationsOf = Callable[[str, int], Sequence[Evaluation]]
"""The evaluations of one try by attempt id and try, as `Reader.evaluations` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One evaluation during a training."""

    step: int
    score: float | None  # 0..1; None where it was not finite
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The evaluations of the try that counts, in order of steps.

    They are of the half that is scored all the way; a confirmation's score, of the other half, is not
    among them.
    """

    id: str
    search: str  # label
    search_index: int  # in the plan's order
    stage: str
    role: Role
    variant: str
    seed: int
    half: Half
    outcome: str | None
    decision: str | None  # of a screening stage; "prune" at its last point is where a variant was pruned
    points: tuple[Point, ...]


def curves_of(rows: Iterable[Row], evaluations_of: EvaluationsOf) -> list[Curve]:
    """The curves of a plan's trainings, in its order of asking; nothing of those without a score."""
    return [curve for row in rows if (curve := _curve(row, evaluations_of))]


def _curve(row: Row, evaluations_of: EvaluationsOf) -> Curve | None:
    spec = row.attempt.spec
    if not row.trained or row.superseded or row.search_index is None:
        return None
    half = spec.halves[0]
    points = tuple(
        Point(step=point.step, score=point.score, loss=point.loss)
        for point in evaluations_of(spec.id, row.attempt.try_number)
        if point.half == half
    )
    if all(point.score is None for point in points):
        return None
    return Curve(
        id=spec.id,
        search=row.search,
        search_index=row.search_index,
        stage=row.stage,
        role=spec.role,
        variant=row.variant,
        seed=spec.seed,
        half=half,
        outcome=row.attempt.outcome,
        decision=row.decision,
        points=points,
    )
