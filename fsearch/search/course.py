"""What another threshold would have cost a recorded search, and what it would have lost.

Only what the record tells: a variant that was never confirmed is unknown, and stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fsearch.plan import Search
from fsearch.search.replay import Recorded, Replayed
from fsearch.search.rows import AttemptSpec
from fsearch.search.screening import decide, promote

BETTER = ("at_least_delta", "better_than_zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """How a search would have gone at another threshold, beside how it went."""

    attempts: int | None  # confirmation attempts more (+) or fewer (-); None where it is not known
    steps: int | None  # of these attempts
    at_most: bool  # the limit of promotions is not known, and might have left some of them out
    lost: tuple[str, ...]  # variants that were confirmed as better and would not have been
    unknown: tuple[str, ...]  # variants that would have gone on and never did: nothing is known of them


@dataclass(slots=True, kw_only=True)
class Course:
    """One screened search as it went: its screening differences and its confirmation."""

    label: str
    batch: int
    master_seed: int
    planned: Search | None  # what a plan says of it, where one is known
    screens: dict[str, list[float]] = field(default_factory=dict)  # by variant, one a stage it was in
    stages: list[str] = field(default_factory=list)  # the screening stages that began
    dropped: set[str] = field(default_factory=set)  # variants without a result in a screening stage
    promoted: list[str] = field(default_factory=list)
    left_out: bool = False  # whether the limit of promotions left a survivor out
    better: list[str] = field(default_factory=list)  # variants that were confirmed as better
    confirmations: dict[str, list[AttemptSpec]] = field(default_factory=dict)  # by variant
    baselines: list[AttemptSpec] = field(default_factory=list)  # of the confirmation

    @property
    def confirmed(self) -> list[AttemptSpec]:
        """All confirmation attempts that ran, baselines included."""
        return [*self.baselines, *(spec for specs in self.confirmations.values() for spec in specs)]

    def at(self, prune_below: float) -> Otherwise:
        """The same search at another threshold."""
        kept = {
            name: differences[-1]
            for name, differences in self.screens.items()
            if name not in self.dropped
            and all(decide(difference, prune_below) == "keep" for difference in differences)
        }
        midway = [name for name in kept if len(self.screens[name]) < self._n_screens]
        through = {name: difference for name, difference in kept.items() if name not in midway}
        limit, limit_is_known = self._limit
        chosen = promote(through, limit)
        gone = [name for name in self.promoted if name not in chosen]
        new = [name for name in chosen if name not in self.promoted]
        spared = [spec for name in gone for spec in self.confirmations.get(name, ())]
        if not chosen:
            spared += self.baselines
        attempts: int | None = -len(spared)
        steps: int | None = -sum(spec.steps for spec in spared)
        if new or midway or (gone and self._tops_up):
            attempts = steps = None
            if self._confirmation is not None and not midway:
                seeds, length = self._confirmation
                more = seeds * (len(new) + (not self.baselines))
                attempts = more - len(spared)
                steps = more * length - sum(spec.steps for spec in spared)
        return Otherwise(
            attempts=attempts,
            steps=steps,
            at_most=bool(new) and not limit_is_known,
            lost=tuple(name for name in gone if name in self.better),
            unknown=(*new, *midway),
        )

    @property
    def _tops_up(self) -> bool:
        """Whether who else is promoted decides how many seeds a variant gets."""
        last = self.planned.stages[-1] if self.planned is not None else None
        return last is not None and last.most_seeds > last.first_seeds

    @property
    def _n_screens(self) -> int:
        """How many screening rows a variant has that came through; stages of equal steps share theirs."""
        if self.planned is None:
            return len(self.stages)
        return len({stage.steps for stage in self.planned.stages[:-1]})

    @property
    def _limit(self) -> tuple[int | None, bool]:
        """How many are promoted at most, and whether that is known: a limit that left one out shows."""
        if self.planned is not None and self.planned.screen is not None:
            return self.planned.screen.promote_at_most, True
        return (len(self.promoted), True) if self.left_out else (None, False)

    @property
    def _confirmation(self) -> tuple[int, int] | None:
        """Seeds and steps of one variant's confirmation: the plan's, else those that ran; None if unknown,
        as it is with a top-up."""
        if self.planned is not None:
            last = self.planned.stages[-1]
            return None if self._tops_up else (last.first_seeds, last.steps)
        return (len(self.baselines), self.baselines[0].steps) if self.baselines else None


def courses(
    rows: Sequence[Recorded],
    replayed: Sequence[Replayed],
    planned: Callable[[AttemptSpec], Search | None],
) -> list[Course]:
    """The screened searches of an export of ours, in its order (which is that of asking)."""
    found: dict[tuple[str, str, int, int, str], Course] = {}
    outcome = {item.row.line: item for item in replayed}
    for row in rows:
        spec = row.attempt.spec
        if spec.role not in ("screen", "confirm") or "noop" in spec.form:
            continue
        key = (spec.plan, spec.search, spec.batch, spec.master_seed, row.attempt.fingerprint)
        if key not in found:
            found[key] = Course(
                label=spec.search, batch=spec.batch, master_seed=spec.master_seed, planned=planned(spec)
            )
        _add(found[key], row, outcome.get(row.line))
    return [course for course in found.values() if course.screens]


def _add(course: Course, row: Recorded, item: Replayed | None) -> None:
    """Write one row into the course; `item` is what the rules say of it, None for a baseline."""
    spec = row.attempt.spec
    if spec.role == "confirm":
        specs = course.baselines if item is None else course.confirmations.setdefault(spec.variant, [])
        specs.append(spec)
        if row.verdict in BETTER and spec.variant not in course.better:
            course.better.append(spec.variant)
        return
    if spec.stage not in course.stages:
        course.stages.append(spec.stage)
    if item is None:
        return
    if item.d_acc is None:
        course.dropped.add(spec.variant)
    else:
        course.screens.setdefault(spec.variant, []).append(item.d_acc)
    if row.decision == "promote":
        course.promoted.append(spec.variant)
    course.left_out |= row.decision == "keep" and row.verdict == "not_promoted"
