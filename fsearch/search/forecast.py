"""How long a search will take, from how long recorded runs like its own took. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from fsearch.plan import Search
from fsearch.search.rows import Attempt, Recompute
from fsearch.search.specs import CURVE_POINTS, recompute_choices, search_key


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs were measured on, as their fingerprints say it; "" and 0 where they do not."""

    device: str
    threads: int
    backend: str


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over recorded runs, in seconds."""

    step_s: float  # of an optimizer step
    evaluation_s: float  # of one evaluation on the validation examples
    load_s: float  # until the first step
    runs: int
    machine: Machine

    def attempt_s(self, search: Search, steps: int) -> float:
        """How long one attempt of so many steps takes, with the evaluations of its curve."""
        every = search.every or max(1, steps // CURVE_POINTS)
        return self.load_s + steps * self.step_s + (steps // every + 1) * self.evaluation_s


def known_speed(search: Search, attempts: Iterable[Attempt]) -> Speed | None:
    """The speed of runs like a search's own; None if none is recorded.

    Alike are runs of the task with its arguments, the model, the precision and the batch; a batch that has to
    be found is known from the search itself alone. Of several machines (device, threads, backend) the one of
    the newest run counts, and where the plan leaves it open, that run's way with layers (recomputed or not).
    Runs that were interrupted are left out: their seconds are not all of them.
    """
    by_place: dict[tuple[Machine, Recompute], list[Attempt]] = {}
    newest: tuple[int, tuple[Machine, Recompute]] | None = None
    for row in attempts:
        if not _alike(search, row):
            continue
        parts = row.fingerprints
        machine = Machine(str(parts.get("device", "")), int(parts.get("threads", 0)), row.backend)
        place = machine, row.spec.recompute
        by_place.setdefault(place, []).append(row)
        if newest is None or row.sequence > newest[0]:
            newest = row.sequence, place
    if newest is None:
        return None
    rows = by_place[newest[1]]
    return Speed(
        step_s=median(row.seconds["train"] / row.steps_done for row in rows),
        evaluation_s=median(row.seconds.get("evaluate", 0.0) / _evaluations(row) for row in rows),
        load_s=median(row.seconds.get("load", 0.0) for row in rows),
        runs=len(rows),
        machine=newest[1][0],
    )


def seconds(search: Search, speed: Speed, sizes: Sequence[int]) -> float:
    """How long a search takes with so many attempts of each stage."""
    stages = zip(search.stages, sizes, strict=True)
    return sum(size * speed.attempt_s(search, stage.steps) for stage, size in stages)


def _alike(search: Search, row: Attempt) -> bool:
    spec = row.spec
    same = (spec.task, spec.arguments, spec.model) == (search.task, search.arguments, search.model)
    batch = spec.batch == search.batch or spec.search_key == search_key(search)
    whole = row.outcome == "completed" and row.try_number == 1 and 0 < row.steps_done == spec.steps
    precise = spec.recipe.get("precision") == search.recipe.get("precision")
    computed = precise and spec.recompute in recompute_choices(search)
    trained = spec.role in ("screen", "confirm") and row.seconds.get("train", 0.0) > 0
    return same and batch and whole and computed and trained


def _evaluations(row: Attempt) -> int:
    """Evaluations of a run: those of its curve, and the last."""
    return row.spec.steps // int(row.spec.evaluate.get("every") or row.spec.steps) + 1
