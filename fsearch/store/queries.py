"""Every question the record answers, each one short transaction giving plain data.

`Reader` and `Store` answer them alike; they differ only in how `_read` gets a transaction. Nothing here
decides: the newest try, the closing try, the verdict are functions of what is returned.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Text, cast, func, or_, select

from fsearch.search.rows import Attempt, DataFact, Half, ModelFact
from fsearch.store import tables
from fsearch.store.mapping import DATA, MODEL, TOLD, attempt_of, data_fact_of, model_fact_of
from fsearch.store.records import DaemonRecord, Evaluation, Event, ExampleScores, PlanRecord, Sample
from fsearch.store.scores import OF_SCORES, unpack, unpack_values

if TYPE_CHECKING:
    from fsearch.store.scores import Values

T = TypeVar("T")

TRAINED = ("screen", "confirm")
"""The roles of attempts that are trained to be compared."""


def one_of(column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    """`column IN values` with one bound parameter, so that no number of values is too many."""
    return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))


def attempt_with(connection: Connection, id: str, try_number: int) -> Attempt | None:
    """One try, inside a transaction of the caller."""
    table = tables.attempt
    query = select(table).where(table.c.id == id, table.c["try"] == try_number)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else attempt_of(row)


def last_drawn(connection: Connection, *columns: ColumnElement[Any]) -> int:
    """The newest sequence number in any of these columns; 0 where there is none."""
    last = (func.coalesce(select(func.max(column)).scalar_subquery(), 0) for column in columns)
    return int(connection.execute(select(func.max(*last))).scalar_one())


class Queries(ABC):
    """What can be asked of a record. Every method raises StoreError where the record cannot be read."""

    @abstractmethod
    def _read(self, query: Callable[[Connection], T]) -> T:
        """The answer of `query`, run inside one transaction."""

    def attempts(
        self,
        *,
        plan_ids: Sequence[str] | None = None,
        search_keys: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Attempt]:
        """Attempts that any of the given lists names, all tries, in order of recording; all if none is given.

        A row belongs to the plan that asked for this try: what another plan shares with it is found by search
        key or id.
        """
        table = tables.attempt
        wanted = [
            one_of(column, values)
            for column, values in (
                (table.c.plan, plan_ids),
                (table.c.search_key, search_keys),
                (table.c.id, ids),
            )
            if values is not None
        ]
        query = select(table).order_by(table.c.sequence)
        if wanted:
            query = query.where(table.c.id.in_(select(table.c.id).where(or_(*wanted))))
        return self._attempts(query)

    def newest_of_task(self, task: str, limit: int) -> list[Attempt]:
        """The newest trained rows of a task that have a result, at most `limit`, newest first."""
        table = tables.attempt
        wanted = (table.c.task == task) & table.c.role.in_(TRAINED) & (table.c.outcome == "completed")
        return self._attempts(select(table).where(wanted).order_by(table.c.sequence.desc()).limit(limit))

    def last_fingerprints(self) -> dict[str, Any]:
        """What the newest attempt ran under, part by part; empty where none has."""
        table = tables.attempt
        query = select(table.c.fingerprints).where(cast(table.c.fingerprints, Text) != "{}")
        newest = query.order_by(table.c.sequence.desc()).limit(1)
        found: dict[str, Any] | None = self._read(
            lambda connection: connection.execute(newest).scalar_one_or_none()
        )
        return found or {}

    def last_sequence(self) -> int:
        """The newest sequence number of an attempt's begin or end; 0 before the first."""
        columns = (tables.attempt.c.sequence, tables.attempt.c.ended_sequence)
        return self._read(lambda connection: last_drawn(connection, *columns))

    def unfinished(self) -> list[Attempt]:
        """Attempts without an outcome: the running one, and what a killed daemon left."""
        table = tables.attempt
        return self._attempts(select(table).where(table.c.outcome.is_(None)).order_by(table.c.sequence))

    def attempt(self, id: str, try_number: int) -> Attempt | None:
        """One try of one attempt."""
        return self._read(lambda connection: attempt_with(connection, id, try_number))

    def _attempts(self, query: Select[Any]) -> list[Attempt]:
        return self._read(
            lambda connection: [attempt_of(row) for row in connection.execute(query).mappings()]
        )

    def facts(self) -> dict[str, DataFact]:
        """What is known about data, by key."""
        return {fact.key: fact for fact in self._facts(DATA, data_fact_of)}

    def models(self) -> dict[str, ModelFact]:
        """What is known about checkpoints, by key."""
        return {fact.key: fact for fact in self._facts(MODEL, model_fact_of)}

    def told(self) -> set[str]:
        """What people were told, by the keys that it was noted under."""
        return set(self._facts(TOLD, lambda row: str(row["key"])))

    def _facts(self, kind: str, fact_of: Callable[[RowMapping], T]) -> list[T]:
        table = tables.fact
        query = select(table).where(table.c.kind == kind).order_by(table.c.key)
        return self._read(lambda connection: [fact_of(row) for row in connection.execute(query).mappings()])

    def plans(self) -> list[PlanRecord]:
        """All plans, in the order in which they were first asked."""
        return self._records(PlanRecord, select(tables.plan).order_by(tables.plan.c.position))

    def evaluations(self, id: str, try_number: int) -> list[Evaluation]:
        """The curve of one try, by step and half."""
        table = tables.evaluation
        columns = [column for column in table.c if column.name not in ("attempt", "try")]
        query = select(*columns).where(table.c.attempt == id, table.c["try"] == try_number)
        return self._records(Evaluation, query.order_by(table.c.step, table.c.half))

    def example_scores(self, id: str, try_number: int, half: Half) -> ExampleScores | None:
        """The last evaluation of one try, example by example; None where it was not recorded."""
        table = tables.example_score
        query = select(table.c.packed).where(
            table.c.attempt == id, table.c["try"] == try_number, table.c.half == half
        )
        packed: bytes | None = self._read(lambda connection: connection.execute(query).scalar_one_or_none())
        return None if packed is None else unpack(packed)

    def example_values(self, id: str, try_number: int, half: Half, metric: str) -> Values | None:
        """What a metric of the last evaluation of one try is for each example [n], in 0..1; NaN: not judged.

        None where it was not recorded.
        """
        if metric in OF_SCORES:
            scores = self.example_scores(id, try_number, half)
            return None if scores is None else OF_SCORES[metric](scores)
        table = tables.example_metric
        query = select(table.c.packed).where(
            table.c.attempt == id,
            table.c["try"] == try_number,
            table.c.half == half,
            table.c.metric == metric,
        )
        packed: bytes | None = self._read(lambda connection: connection.execute(query).scalar_one_or_none())
        return None if packed is None else unpack_values(packed)

    def telemetry(self, id: str, try_number: int) -> list[Sample]:
        """Readings of the device during one try, by time."""
        table = tables.telemetry
        columns = [column for column in table.c if column.name not in ("attempt", "try")]
        query = select(*columns).where(table.c.attempt == id, table.c["try"] == try_number)
        return self._records(Sample, query.order_by(table.c.offset_s))

    def events(self, after: int | None = None, limit: int = 100) -> list[Event]:
        """At most `limit` events in order: the first with a sequence number above `after`, else the last."""
        table = tables.event
        query = select(
            *(column.label("try_number") if column.name == "try" else column for column in table.c)
        )
        if after is None:
            return self._records(Event, query.order_by(table.c.sequence.desc()).limit(limit))[::-1]
        return self._records(
            Event, query.where(table.c.sequence > after).order_by(table.c.sequence).limit(limit)
        )

    def daemon(self) -> DaemonRecord | None:
        """The daemon that started last."""
        query = select(tables.daemon).order_by(tables.daemon.c.sequence.desc()).limit(1)
        return next(iter(self._records(DaemonRecord, query)), None)

    def _records(self, kind: Callable[..., T], query: Select[Any]) -> list[T]:
        return self._read(lambda connection: [kind(**row) for row in connection.execute(query).mappings()])
