"""A plan's rules applied to rows that were recorded earlier. Nothing is trained and nothing is written.

Differences, decisions and promotions are made by `fsearch.search.screening`, as in a run: a replay cannot
come to other ones. The rows are an export of ours, or the records of the drafts (one seed for quick and
medium, no medium baseline); who reads them makes `Recorded` of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fsearch.plan import BASELINE_FORM
from fsearch.search.ids import digest
from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.search.screening import Decision, comparable, d_acc, decide
from fsearch.search.specs import SCREEN_SEED

NO_SEED = -1
"""The seed of a row that names none; such rows match each other and no others."""

UNMATCHED = "no matched baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A row of a file: the attempt, and what the run that recorded it made of it."""

    line: int  # from 1
    attempt: Attempt
    drafts: bool = False
    plan_name: str = ""
    decision: Literal["keep", "prune", "promote"] | None = None
    verdict: str | None = None

    @property
    def is_baseline(self) -> bool:
        return self.attempt.spec.form == BASELINE_FORM

    @property
    def seed(self) -> int | None:
        """None where the row names none."""
        seed = self.attempt.spec.seed
        return None if seed == NO_SEED else seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A variant's row and what the rules say of it."""

    row: Recorded
    d_acc: float | None  # against the matched baseline, as a fraction
    decision: Decision | Literal["failed"] | None  # None: nothing is decided on such a row
    verdict: str | None  # of confirmations: as recorded, or UNMATCHED
    drafts_delta: float | None  # of confirmations: medium minus quick baseline, not a matched comparison
    reason: str  # why there is no difference

    @property
    def tie(self) -> bool:
        return self.d_acc == 0.0

    @property
    def differs(self) -> bool:
        """Whether the run decided otherwise than the replay."""
        made = "keep" if self.row.decision == "promote" else self.row.decision
        return made is not None and made != self.decision


class Ambiguous(ValueError):
    """Two rows are the baseline of the same comparisons, with different scores."""

    def __init__(self, first: Recorded, second: Recorded):
        self.lines = sorted((first.line, second.line))
        super().__init__(
            f"lines {self.lines[0]} and {self.lines[1]} are both the {first.attempt.spec.stage} baseline of "
            f"{first.attempt.spec.task}, batch {first.attempt.spec.batch}, with different scores; "
            "replay one run at a time"
        )


def replay(rows: Sequence[Recorded], prune_below: Callable[[AttemptSpec], float]) -> list[Replayed]:
    """What the rules say of every screened or confirmed variant, in the order of the rows.

    prune_below: the threshold, as a fraction, of the search that a screening attempt belongs to.

    Raises:
        Ambiguous: it cannot be told which baseline is meant.
    """
    baselines = _baselines(rows)
    quick = _quick_baselines(baselines.values())
    found = []
    for row in rows:
        spec = row.attempt.spec
        if spec.role in ("screen", "confirm") and not row.is_baseline:
            baseline = baselines.get(_matched_key(row.attempt))
            found.append(_replayed(row, baseline, quick.get(_quick_key(row)), prune_below))
    return found


def _replayed(
    row: Recorded,
    baseline: Recorded | None,
    quick: Recorded | None,
    prune_below: Callable[[AttemptSpec], float],
) -> Replayed:
    attempt = row.attempt
    confirms = attempt.spec.role == "confirm"
    decision: Decision | Literal["failed"] | None = None
    verdict = row.verdict if confirms else None
    difference, reason = None, ""
    if attempt.outcome != "completed":
        reason = attempt.reason or attempt.outcome or "it has not ended"
        decision = None if attempt.outcome_class in (None, "result") else "failed"
        if attempt.outcome == "stopped_early":
            decision = "prune"
    elif attempt.score is None:
        decision, reason = "failed", "no score was recorded"
    elif baseline is None or baseline.attempt.score is None:
        reason = f"{UNMATCHED}: it failed ({baseline.attempt.reason})" if baseline else UNMATCHED
        decision, verdict = (None, UNMATCHED) if confirms else ("failed", None)
    else:
        difference = d_acc(attempt, baseline.attempt)
        decision = None if confirms else decide(difference, prune_below(attempt.spec))
    if confirms and row.drafts and difference is None:
        verdict = UNMATCHED
    medium = attempt.score if row.drafts else attempt.screen_score
    level = quick.attempt.score if quick else None
    return Replayed(
        row=row,
        d_acc=difference,
        decision=decision,
        verdict=verdict,
        drafts_delta=medium - level if confirms and medium is not None and level is not None else None,
        reason=reason,
    )


def _baselines(rows: Sequence[Recorded]) -> dict[str, Recorded]:
    """The baselines by what must be equal; of several the one with a score."""
    found: dict[str, Recorded] = {}
    for row in rows:
        if not row.is_baseline or row.attempt.spec.role not in ("screen", "confirm"):
            continue
        known = found.setdefault(_matched_key(row.attempt), row)
        if known.attempt.score is None:
            found[_matched_key(row.attempt)] = row
        elif row.attempt.score not in (None, known.attempt.score):
            raise Ambiguous(known, row)
    return found


def _quick_baselines(baselines: Iterable[Recorded]) -> dict[str, Recorded]:
    """The baselines that the drafts would have subtracted: those of the shortest screening stage."""
    found: dict[str, Recorded] = {}
    for row in sorted(baselines, key=lambda row: row.attempt.spec.steps):
        if row.attempt.spec.role == "screen" and (row.drafts or row.attempt.spec.seed == SCREEN_SEED):
            found.setdefault(_quick_key(row), row)
    return found


def _matched_key(attempt: Attempt) -> str:
    return digest(comparable(attempt))


def _quick_key(row: Recorded) -> str:
    """What a medium row and its quick baseline share; ours share no seed."""
    apart = ("role", "steps", "look_step", "halves", *(() if row.drafts else ("seed",)))
    return digest({name: value for name, value in comparable(row.attempt).items() if name not in apart})
