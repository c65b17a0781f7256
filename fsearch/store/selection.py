"""The rows that plans are decided from, out of a record that may hold many more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fsearch.plan import Plan, expand
from fsearch.search.board import Record
from fsearch.search.rows import ModelFact
from fsearch.search.specs import search_key
from fsearch.store.queries import Queries


def record_of(
    plans: Sequence[Plan], source: Queries, models: Mapping[str, ModelFact], *, outlines: bool = False
) -> Record:
    """All that the record knows of these plans: their searches' rows at once, every other row when asked for.

    A row that a plan shares with another one may stand under that one's search alone; it is found by its id.
    `models` are the inspected checkpoints. `source` is to stay open as long as the result is used.
    `outlines` keeps what has ended without its rows, for who decides and does not show (see `Record`).
    """
    rows = source.attempts(
        plan_ids=[plan.id for plan in plans],
        search_keys=[search_key(search) for plan in plans for search in expand(plan, models)],
    )
    return Record(rows, lambda identity: source.attempts(ids=[identity]), outlines=outlines)
