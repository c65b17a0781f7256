"""What the searches of a plan wait for, from their rows: for their turn, their data, a network."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fsearch.daemon.network import wanted
from fsearch.search.outcomes import network_streak
from fsearch.ui.moment import Moment
from fsearch.ui.rows import Row
from fsearch.ui.view import SearchView
from fsearch.ui.words import NOT_INSPECTED, age

Waiting = Literal["its turn", "its data", "a network", "the model"]


def waits_for(moment: Moment, search: SearchView) -> Waiting | None:
    """What keeps a search from training; None where nothing does, or nobody would train it."""
    if moment.life != "running" or search.finished or search.begun or moment.view is None:
        return None
    if search.examples is not None:
        return "its turn"
    wanted = [row for row in _preparations(moment) if _prepares(row, search)]
    if not search.inspected:
        wanted += _inspections(moment)
    if any(map(_misses, wanted)):
        return "a network"
    return "its data" if search.inspected else "the model"


def waiting_words(waiting: Waiting) -> str:
    """The same for a person, beside a search."""
    if waiting == "the model":
        return NOT_INSPECTED
    return {"its data": "its data are not ready yet"}.get(waiting, f"for {waiting}")


def missing_networks(moment: Moment, now: datetime) -> list[str]:
    """A sentence for each thing that cannot be downloaded now."""
    if moment.life != "running":
        return []
    found = []
    for row in (*_inspections(moment), *_preparations(moment)):
        if not _misses(row):
            continue
        missed = network_streak(row.tries, row.tries[-1].daemon)
        what = wanted(row.attempt.spec, row.search)
        times = f"tried {len(missed)} time{'s' * (len(missed) > 1)}, last {age(missed[-1].ended_at, now)} ago"
        found.append(f"no network for {what}, {times}: {missed[-1].reason}")
    return found


def _misses(row: Row) -> bool:
    """Whether it is to be downloaded and its newest tries found no network."""
    return not row.closed and bool(network_streak(row.tries, row.tries[-1].daemon))


def _inspections(moment: Moment) -> list[Row]:
    return [row for row in (moment.view.rows if moment.view else ()) if row.attempt.spec.role == "inspect"]


def _preparations(moment: Moment) -> list[Row]:
    return [row for row in (moment.view.rows if moment.view else ()) if row.attempt.spec.role == "prepare"]


def _prepares(row: Row, search: SearchView) -> bool:
    """Whether it prepares the data of this search, which several may share."""
    spec = row.attempt.spec
    return (spec.task, spec.arguments) == (search.task, search.arguments)
