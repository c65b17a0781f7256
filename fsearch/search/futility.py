"""The one look into a screening run: after which step, and below which score there a variant is stopped.

A look can only end a run early. It keeps nothing, promotes nothing and claims nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from fsearch.plan import Search, Stage
from fsearch.search.rows import Attempt
from fsearch.search.statistics import noise_sd

STOPPED_EQUALS = 0.10
"""The share of variants equal to the baseline that a look may stop, at most."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a variant is held against. Scores are fractions, on the screen half, after `step` steps."""

    step: int
    baseline_score: float
    below: float  # a variant with less than this is stopped


def look_step(search: Search, stage: Stage) -> int | None:
    """The step after which every run of a stage is looked at; None where none is.

    Only the first stage is: it alone has a noise floor to hold a variant against.
    """
    if search.screen is None or search.screen.futility_look is None or stage != search.stages[0]:
        return None
    return min(max(1, round(search.screen.futility_look * stage.steps)), stage.steps - 1)


def look_of(baseline: Attempt, noise_floor: Sequence[Attempt]) -> Look | None:
    """The look at the variants of a baseline; None where they are not to be looked at.

    With n baseline scores at the look, b of the variant's own seed among them, and sd = sqrt(2) times their
    sample standard deviation: stopped below b - t(.90, n - 1) * sd. Of variants equal to the baseline that
    is at most a tenth: t allows for the estimated spread, and b being one of the scores, as well as whatever
    a shared seed has in common, only makes it less. Nobody is stopped where fewer than two scores are known,
    or all are equal and the noise is not known from them.
    """
    step, own = baseline.spec.look_step, baseline.look_score
    scores = [row.look_score for row in (baseline, *noise_floor) if row.look_score is not None]
    sd = noise_sd(scores)
    if step is None or own is None or not sd:
        return None
    return Look(step, own, own - float(stdtrit(len(scores) - 1, 1 - STOPPED_EQUALS)) * sd)
