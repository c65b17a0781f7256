"""What will most likely be asked for next, while an attempt still runs: so that its process can get ready.

A guess costs nothing but what was made ready: it decides nothing and is written down nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fsearch.plan import Plan, expand
from fsearch.search.board import Note, Record, Run
from fsearch.search.next_step import next_steps
from fsearch.search.rows import Attempt, Facts, Role

GUESSED: frozenset[Role] = frozenset({"screen", "confirm"})
"""The roles of attempts that a guess is made of, and after. A probe needs the memory, and all that comes next
depends on what it finds."""

_EXPECTED_SCORE = 1.0
"""A variant is taken to be kept. Nothing else that the next attempt depends on is a question of scores."""


def expected_next(
    plans: Sequence[Plan],
    facts: Facts,
    record: Record,
    running: Attempt,
    nodes: Iterable[str],
    now_s: float,
) -> Run | None:
    """The attempt that comes next in the place of `running`, if that completes as most do before all others.

    None where it is not of the same search. `nodes`: all that there are, see `next_steps`.
    What it takes from the row that is still to come (`noop_reference`, `look`) is not to be relied on.
    """
    if running.spec.role not in GUESSED:
        return None
    free = {**dict.fromkeys(nodes, 0), running.node: 1}
    supposed = record.supposing(_completed(running, plans, facts))
    for plan in plans:
        steps = next_steps(plan, facts, supposed, now_s, free)
        if isinstance(steps, Sequence):
            (run,) = steps
            same = run.spec.search_key == running.spec.search_key and run.spec.role in GUESSED
            return run if same else None
        if isinstance(steps, Note):
            return None
    return None


def _completed(running: Attempt, plans: Sequence[Plan], facts: Facts) -> Attempt:
    """Its row, with a score by whatever metric a plan decides."""
    names = {search.metric for plan in plans for search in expand(plan, facts.models)}
    metrics = dict.fromkeys(names, _EXPECTED_SCORE)
    return replace(
        running,
        outcome="completed",
        outcome_class="result",
        score=_EXPECTED_SCORE,
        screen_score=_EXPECTED_SCORE,
        loss=0.0,
        metrics=metrics,
        screen_metrics=metrics,
    )
