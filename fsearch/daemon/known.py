"""What the daemon knows: the rows of the record, the data sets that are ready, what attempts run under.

All of it can be read again from the record and the machine; it is kept at hand because the daemon is the
only writer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsearch.search.board import Record
from fsearch.search.ids import data_key, digest
from fsearch.search.rows import Attempt, AttemptSpec, DataFact, Facts
from fsearch.store import Store
from fsearch.tasks.prepared import code_sha256


class Known:
    """Rows and facts, as `fsearch.search` wants them."""

    def __init__(self, store: Store, environment: dict[str, Any], daemon_id: str) -> None:
        """`environment` is the fingerprint of code, torch, device and threads, part by part."""
        self._store = store
        self._parts = environment
        self._environment = digest(environment)
        self._daemon_id = daemon_id
        self._rows = {(row.spec.id, row.try_number): row for row in store.attempts()}
        self._record: Record | None = None  # of the rows, until they change
        self._data = _usable(store.facts())
        self.backend = ""  # what trains; "" until the kernel is there or given up

    @property
    def facts(self) -> Facts:
        return Facts(
            data=self._data,
            environment=self._environment,
            backend=self.backend,
            daemon=self._daemon_id,
        )

    @property
    def record(self) -> Record:
        if self._record is None:
            self._record = Record(self._rows.values())
        return self._record

    def keep(self, row: Attempt) -> Attempt:
        """Take in a row that has just been written."""
        self._rows[row.spec.id, row.try_number] = row
        self._record = None
        return row

    def keep_data(self, spec: AttemptSpec, data: dict[str, Any]) -> None:
        """Write down that a preparation has made a data set."""
        fact = DataFact(key=_key(spec), **data)
        self._store.put_fact(fact)
        self._data[fact.key] = fact

    def data_of(self, spec: AttemptSpec) -> DataFact:
        """The data set that an attempt trains on."""
        return self._data[_key(spec)]

    def fingerprints(self, spec: AttemptSpec) -> dict[str, Any]:
        """What an attempt runs under, part by part."""
        trains = spec.role not in ("build", "prepare")
        return {
            **self._parts,
            "environment": self._environment,
            "backend": self.backend,
            "data": self.data_of(spec).sha256 if trains else "",
        }


def _usable(facts: dict[str, DataFact]) -> dict[str, DataFact]:
    """The data sets that were prepared by the present code and are still there."""
    code = code_sha256()
    return {key: fact for key, fact in facts.items() if fact.code_sha256 == code and Path(fact.path).is_dir()}


def _key(spec: AttemptSpec) -> str:
    return data_key(spec.task, spec.arguments, spec.master_seed)
