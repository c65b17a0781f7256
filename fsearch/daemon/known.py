"""What the daemon knows: the rows of the record, the data sets and models that are ready, what attempts run
under.

All of it can be read again from the record and the machine; it is kept at hand because the daemon is the
only writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fsearch.plan import Plan
from fsearch.search.ids import data_key, digest
from fsearch.search.rows import AHEAD, Attempt, AttemptSpec, DataFact, Facts, ModelFact
from fsearch.store import Store
from fsearch.store.selection import record_of
from fsearch.system.files import sha256_file
from fsearch.tasks.prepared import code_sha256
from fsearch.tasks.sources import Origin


class Known:
    """Rows and facts, as `fsearch.search` wants them."""

    def __init__(
        self,
        store: Store,
        plans: Sequence[Plan],
        environment: dict[str, Any],
        daemon_id: str,
    ) -> None:
        """`environment` is the fingerprint of code, torch, device and threads, part by part."""
        self._store = store
        self._parts = environment
        self._environment = digest(environment)
        self._daemon_id = daemon_id
        recorded = store.facts()
        self.pins = pins_of(recorded.values())
        self._data = _usable(recorded)
        asked = {plan.checkpoint for plan in plans}
        self._models = {key: fact for key, fact in store.models().items() if key in asked}
        self.forget_changed_models()
        self.record = record_of(plans, store, self._models, outlines=True)
        self.backend = ""  # what trains; "" until the kernel is there or given up
        self.memory_mib: int | None = None  # what an attempt may take on the device; None if nobody knows

    @property
    def facts(self) -> Facts:
        return Facts(
            data=self._data,
            environment=self._environment,
            backend=self.backend,
            daemon=self._daemon_id,
            models=self._models,
            memory_mib=self.memory_mib,
        )

    def keep(self, row: Attempt) -> Attempt:
        """Take in a row that has just been written."""
        self.record.add(row)
        return row

    def keep_data(self, spec: AttemptSpec, data: dict[str, Any], origins: Iterable[dict[str, str]]) -> None:
        """Write down that a preparation has made a data set, and what it was made from."""
        fact = DataFact(key=_key(spec), **data, origins=tuple(origins))
        self._store.put_fact(fact)
        self._data[fact.key] = fact
        self.pins |= pins_of([fact])

    def keep_model(self, spec: AttemptSpec, model: dict[str, Any]) -> None:
        """Write down what an inspection has found."""
        fact = ModelFact(key=spec.model["checkpoint"], **model)
        self._store.put_fact(fact)
        self._models = {**self._models, fact.key: fact}

    def forget_changed_models(self) -> None:
        """Forget the checkpoints whose files are not the inspected ones any more; they are inspected anew."""
        for key in [key for key, fact in self._models.items() if not _same_file(fact)]:
            self._store.forget_model(key)
            self._models = {other: fact for other, fact in self._models.items() if other != key}

    def model_of(self, spec: AttemptSpec) -> ModelFact | None:
        """The checkpoint that an attempt starts from; None if it starts from scratch.

        Any file with its contents will do.
        """
        wanted = spec.model.get("checkpoint")
        return next((fact for fact in self._models.values() if fact.sha256 == wanted), None)

    def data_of(self, spec: AttemptSpec) -> DataFact:
        """The data set that an attempt trains on."""
        return self._data[_key(spec)]

    def fingerprints(self, spec: AttemptSpec) -> dict[str, Any]:
        """What an attempt runs under, part by part."""
        return {
            **self._parts,
            "environment": self._environment,
            "backend": self.backend,
            "data": self.data_of(spec).sha256 if spec.role not in AHEAD else "",
        }


def pins_of(facts: Iterable[DataFact]) -> dict[str, str]:
    """The commit of every "owner/name@revision" that was read, whatever code read it.

    So that a revision such as main means the same rows for as long as the record is kept.
    """
    origins = [Origin(**one) for fact in facts for one in fact.origins]
    return {origin.pin: origin.commit for origin in origins if origin.commit}


def _usable(facts: dict[str, DataFact]) -> dict[str, DataFact]:
    """The data sets that were prepared by the present code, from files as they are, and are still there."""
    code = code_sha256()
    hashed = cache(sha256_file)
    return {
        key: fact
        for key, fact in facts.items()
        if fact.code_sha256 == code
        and Path(fact.path).is_dir()
        and all(Origin(**one).is_unchanged(hashed) for one in fact.origins)
    }


def _same_file(fact: ModelFact) -> bool:
    """Whether the file of a checkpoint was not touched since its inspection."""
    try:
        now = os.stat(fact.path)
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (fact.size_bytes, fact.modified_ns)


def _key(spec: AttemptSpec) -> str:
    return data_key(spec.task, spec.arguments, spec.master_seed)
