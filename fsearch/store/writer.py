"""The one writer of a record.

The contract of `Store`:

- One process writes and checkpoints, through one connection; a lock on the folder sees to it and goes
  with the process, however it dies. (SQLite before 3.51.3 can damage a record that two connections
  write or checkpoint at the same moment.) A `Store` is for one thread, `backup` for any, and is not carried
  over a fork.
- Each method is one transaction, on the disk when the method returns. After an exception nothing of it
  is there, and it can be called again.
- Each method may be called twice, since a kill between the commit and the answer is the common case:
  what is recorded already stays as it is. `event` alone has no key and adds a line at each call.
- Where somebody else's lock or a full disk stands in the way, `hindered` is asked: the write is made again
  if it says so, else it raises StoreLocked or StoreFull.
- What contradicts the record (another outcome, an unknown attempt) raises StoreConflict.
- Sequence numbers, drawn from one counter by attempts at their begin and end, events and daemons, give
  the order of everything. Clock times are for people.
- Details first, the end last: evaluations, example scores and telemetry are added before `finish`, so
  that a finished attempt has all of them.

It decides nothing, and deletes nothing but a fact that no longer holds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from sqlalchemy import Connection, Table, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from fsearch.search.outcomes import CLASSES
from fsearch.search.rows import Attempt, AttemptSpec, DataFact, Half, ModelFact
from fsearch.store import tables
from fsearch.store.backup import make_backup
from fsearch.store.create import create_folder, create_record
from fsearch.store.engine import close, connect
from fsearch.store.errors import StoreConflict, StoreError, StoreFull, StoreLocked, speaking
from fsearch.store.lock import lock_folder
from fsearch.store.mapping import MODEL, TOLD, attempt_of, fact_row
from fsearch.store.place import check_record, refuse_network_file_system, refuse_read_only
from fsearch.store.queries import Queries, attempt_with
from fsearch.store.records import Evaluation, Level, Result, Sample
from fsearch.store.schema import HEAD, migrate
from fsearch.store.scores import pack
from fsearch.store.transitions import (
    end,
    insert_attempt,
    insert_new,
    next_sequence,
    now,
    same_outcome,
)
from fsearch.system import faults

if TYPE_CHECKING:
    from fsearch.store.scores import Numbers

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


def patient(method: Method) -> Method:
    """A method of `Store` that is called again as often as `hindered` wants it."""

    @wraps(method)
    def again(store: Store, *arguments: Any, **named: Any) -> Any:
        while True:
            try:
                return method(store, *arguments, **named)
            except (StoreLocked, StoreFull) as hindrance:
                if not store.hindered(hindrance):
                    raise

    return cast(Method, again)


class Store(Queries):
    """A record opened for writing; a context manager. Made by `Store.open`."""

    def __init__(self, path: Path, connection: Connection, lock: int) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self.hindered: Callable[[StoreError], bool] = lambda hindrance: False

    @classmethod
    def open(cls, path: Path | str, *, wait_s: float = 5.0) -> Store:
        """Open a record, checked for damage and brought to the newest schema; begin one where there is none.

        wait_s: how long each write waits for a lock of a stranger, such as a SQLite shell.
        Raises StoreCorrupt, StoreNewer, StoreReadOnly, StoreNetworkFileSystem or StoreLocked, with the
        record as it was.
        """
        path = Path(path).absolute()
        refuse_network_file_system(path.parent)
        create_folder(path.parent)
        refuse_read_only(path)
        lock = lock_folder(path)
        try:
            if not path.exists():
                create_record(path)
            revision = check_record(path)
            connection = connect(
                path,
                "mode=rw",  # never creates
                begin="BEGIN IMMEDIATE",
                pragmas=["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"],
                wait_s=wait_s,
                any_thread=True,  # for `backup` alone
            )
            try:
                if revision != HEAD:
                    with speaking(path):
                        migrate(connection)
            except BaseException:
                close(connection)
                raise
        except BaseException:
            os.close(lock)
            raise
        return cls(path, connection, lock)

    def close(self) -> None:
        """Fold the log into the database and let others write. The `Store` cannot be used any more."""
        close(self._connection)
        os.close(self._lock)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with speaking(self.path), self._connection.begin():
            yield self._connection
            faults.point("before a commit")
        faults.point("after a commit")

    @patient
    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._writing() as connection:
            return query(connection)

    def backup(self, target: Path, proceed: Callable[[], bool]) -> bool:
        """Copy the record, from any thread and while another one writes; see `fsearch.store.backup`.

        False if `proceed`, asked between two steps, said no. Raises StoreError.
        """
        source = self._connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        return make_backup(source, self.path, target, proceed)

    @patient
    def add_plan(self, id: str, *, name: str, path: str, text: str) -> None:
        """Note a plan that was asked. One that is known stays as it was first asked."""
        with self._writing() as connection:
            position = connection.scalar(select(1 + func.count()).select_from(tables.plan))
            row = {"id": id, "position": position, "name": name, "path": path, "text": text}
            insert_new(connection, tables.plan, [row | {"first_asked": now()}])

    @patient
    def put_fact(self, fact: DataFact | ModelFact) -> None:
        """Note what is known about a data set or a model now, in place of what was known before."""
        table = tables.fact
        row = fact_row(fact)
        key = (table.c.kind == row["kind"]) & (table.c.key == row["key"])
        with self._writing() as connection:
            known = connection.execute(select(table).where(key)).mappings().one_or_none()
            if known is None:
                connection.execute(insert(table).values(**row, updated=now()))
            elif any(known[name] != value for name, value in row.items()):
                connection.execute(update(table).where(key).values(**row, updated=now()))

    @patient
    def forget_model(self, key: str) -> None:
        """Remove what was known about a checkpoint, because its file is not that one any more."""
        table = tables.fact
        with self._writing() as connection:
            connection.execute(delete(table).where(table.c.kind == MODEL, table.c.key == key))

    @patient
    def add_told(self, key: str) -> None:
        """Note that people were told something; `key` says what."""
        with self._writing() as connection:
            row = {"kind": TOLD, "key": key, "payload": {}, "updated": now()}
            insert_new(connection, tables.fact, [row])

    @patient
    def begin(
        self,
        spec: AttemptSpec,
        try_number: int,
        fingerprint: str,
        fingerprints: Mapping[str, Any],
        daemon: str,
        pid: int | None,
        pid_started: float | None,
    ) -> Attempt:
        """Note that a try runs. Begun already by the same process, it stays as it is.

        Raises StoreConflict where another process began it, or plan or daemon are not recorded.
        """
        with self._writing() as connection:
            known = attempt_with(connection, spec.id, try_number)
            if known is not None:
                if (known.daemon, known.pid, known.pid_started) != (daemon, pid, pid_started):
                    raise StoreConflict(
                        f"Try {try_number} of attempt {spec.id} was begun by daemon {known.daemon}, pid "
                        f"{known.pid}, and is now begun by daemon {daemon}, pid {pid}. Begin the next try."
                    )
                return known
            attempt = Attempt(
                spec=spec,
                try_number=try_number,
                sequence=next_sequence(connection),
                outcome=None,
                outcome_class=None,
                fingerprint=fingerprint,
                fingerprints=dict(fingerprints),
                daemon=daemon,
                pid=pid,
                pid_started=pid_started,
                started_at=now(),
            )
            return insert_attempt(connection, attempt)

    @patient
    def finish(
        self,
        id: str,
        try_number: int,
        outcome: str,
        outcome_class: str,
        reason: str = "",
        **result: Unpack[Result],
    ) -> Attempt:
        """Note how a try ended. Ended already with the same outcome, it stays as it is.

        Raises StoreConflict where it ended with another outcome or was never begun.
        """
        with self._writing() as connection:
            attempt = attempt_with(connection, id, try_number)
            if attempt is None:
                raise StoreConflict(
                    f"Try {try_number} of attempt {id} cannot end as {outcome}: it was never begun."
                )
            if attempt.outcome is not None:
                return same_outcome(attempt, outcome)
            return end(connection, attempt, outcome, outcome_class, reason, result)

    @patient
    def record(
        self,
        spec: AttemptSpec,
        outcome: str,
        outcome_class: str,
        reason: str = "",
        fingerprint: str = "",
        fingerprints: Mapping[str, Any] | None = None,
        daemon: str = "",
        try_number: int = 1,
        **result: Unpack[Result],
    ) -> Attempt:
        """Note an attempt that needed no process, such as a static no-op. Recorded already, it stays.

        Raises StoreConflict where it is recorded with another outcome.
        """
        with self._writing() as connection:
            known = attempt_with(connection, spec.id, try_number)
            if known is not None:
                return same_outcome(known, outcome)
            begun = Attempt(
                spec=spec,
                try_number=try_number,
                sequence=next_sequence(connection),
                outcome=None,
                outcome_class=None,
                fingerprint=fingerprint,
                fingerprints=dict(fingerprints or {}),
                daemon=daemon,
                started_at=now(),
            )
            return end(connection, insert_attempt(connection, begun), outcome, outcome_class, reason, result)

    @patient
    def interrupt_unfinished(self, reason: str, pattern: str = "daemon died") -> list[Attempt]:
        """End every try that a dead daemon left running as "interrupted", and give those."""
        table = tables.attempt
        query = select(table).where(table.c.outcome.is_(None)).order_by(table.c.sequence)
        ended: Result = {"pattern": pattern}
        with self._writing() as connection:
            left = [attempt_of(row) for row in connection.execute(query).mappings().all()]
            kind = CLASSES["interrupted"]
            return [end(connection, attempt, "interrupted", kind, reason, ended) for attempt in left]

    def add_evaluations(self, id: str, try_number: int, evaluations: Sequence[Evaluation]) -> None:
        """Add points of a try's curve; points of a step and half that are there stay."""
        self._add_details(tables.evaluation, id, try_number, [asdict(point) for point in evaluations])

    def add_example_scores(
        self, id: str, try_number: int, half: Half, *, correct: Numbers, total: Numbers, loss: Numbers
    ) -> None:
        """Add the last evaluation example by example.

        correct, total: int32 [examples]; loss: float64 [examples], summed over the scored tokens; arrays
        or little-endian bytes. Raises ValueError where they do not belong together.
        """
        examples, packed = pack(correct, total, loss)
        row = {"half": half, "examples": examples, "packed": packed}
        self._add_details(tables.example_score, id, try_number, [row])

    def add_example_metrics(self, id: str, try_number: int, half: Half, values: Mapping[str, bytes]) -> None:
        """Add what the completions of the last evaluation came to, example by example, by metric.

        float64 [examples], little-endian; NaN for an example without completions.
        """
        rows = [{"half": half, "metric": name, "packed": packed} for name, packed in values.items()]
        self._add_details(tables.example_metric, id, try_number, rows)

    def add_telemetry(self, id: str, try_number: int, samples: Sequence[Sample]) -> None:
        """Add readings of the device during a try; readings of a moment that is there stay."""
        self._add_details(tables.telemetry, id, try_number, [asdict(sample) for sample in samples])

    @patient
    def _add_details(self, table: Table, id: str, try_number: int, rows: list[dict[str, Any]]) -> None:
        with self._writing() as connection:
            insert_new(connection, table, [row | {"attempt": id, "try": try_number} for row in rows])

    @patient
    def event(
        self,
        level: Level,
        text: str,
        *,
        attempt: str | None = None,
        try_number: int | None = None,
        plan: str | None = None,
    ) -> int:
        """Add a line for people; gives its sequence number."""
        with self._writing() as connection:
            sequence = next_sequence(connection)
            row = {"time": now(), "level": level, "text": text, "attempt": attempt, "plan": plan}
            connection.execute(insert(tables.event).values(row | {"sequence": sequence, "try": try_number}))
            return sequence

    @patient
    def start_daemon(
        self, id: str, *, pid: int, pid_started: float | None, host: str, plan: str, lock: str
    ) -> None:
        """Note a daemon that starts. plan: what it was asked to run, for people; lock: name of its lock."""
        started = now()
        row = {
            "id": id,
            "pid": pid,
            "pid_started": pid_started,
            "host": host,
            "plan": plan,
            "lock": lock,
            "sqlite_version": sqlite3.sqlite_version,
            "started": started,
            "beat_at": started,
            "step": "starting",
        }
        with self._writing() as connection:
            insert_new(connection, tables.daemon, [row | {"sequence": next_sequence(connection)}])

    def beat(self, id: str, step: str, progress: Mapping[str, Any] | None = None) -> None:
        """Note that a daemon lives and what it is doing; `progress` of what trains, as JSON without NaN."""
        self._update_daemon(id, step=step, beat_at=now(), progress=dict(progress or {}))

    def end_daemon(self, id: str) -> None:
        """Note that a daemon ended in order."""
        self._update_daemon(id, ended=now())

    @patient
    def _update_daemon(self, id: str, **values: Any) -> None:
        table = tables.daemon
        with self._writing() as connection:
            # A daemon that ended stays ended, at the time it did.
            connection.execute(update(table).where(table.c.id == id, table.c.ended.is_(None)).values(values))
