"""The pieces that the writer's transitions are made of; each runs inside a transaction of the caller."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, update
from sqlalchemy.dialects.sqlite import insert

from fsearch.search.rows import Attempt
from fsearch.store import tables
from fsearch.store.errors import StoreConflict
from fsearch.store.mapping import attempt_row
from fsearch.store.queries import attempt_with, last_drawn
from fsearch.store.records import Result


def now() -> str:
    """UTC, for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def next_sequence(connection: Connection) -> int:
    """One above every number that attempts, events and daemons have drawn."""
    attempt, event, daemon = tables.attempt.c, tables.event.c, tables.daemon.c
    drawn = (attempt.sequence, attempt.ended_sequence, event.sequence, daemon.sequence)
    return last_drawn(connection, *drawn) + 1


def insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; those whose key is there stay as they are."""
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), rows)


def insert_attempt(connection: Connection, attempt: Attempt) -> Attempt:
    """Insert a try; gives it as it is read back."""
    connection.execute(insert(tables.attempt).values(attempt_row(attempt)))
    return _recorded(connection, attempt)


def _recorded(connection: Connection, attempt: Attempt) -> Attempt:
    recorded = attempt_with(connection, attempt.spec.id, attempt.try_number)
    assert recorded is not None
    return recorded


def end(
    connection: Connection,
    attempt: Attempt,
    outcome: str,
    outcome_class: str,
    reason: str,
    result: Result,
) -> Attempt:
    """End a try; gives it as it is read back."""
    table = tables.attempt
    ended = replace(
        attempt, outcome=outcome, outcome_class=outcome_class, reason=reason, ended_at=now(), **result
    )
    row = attempt_row(ended) | {"ended_sequence": next_sequence(connection)}
    this = (table.c.id == attempt.spec.id) & (table.c["try"] == attempt.try_number)
    connection.execute(update(table).where(this).values(row))
    return _recorded(connection, attempt)


def same_outcome(attempt: Attempt, outcome: str) -> Attempt:
    """The try, which ended as `outcome`. Raises StoreConflict where it did not."""
    if attempt.outcome != outcome:
        raise StoreConflict(
            f"Try {attempt.try_number} of attempt {attempt.spec.id} is recorded as "
            f"{attempt.outcome or 'running'} and cannot be recorded as {outcome}."
        )
    return attempt
