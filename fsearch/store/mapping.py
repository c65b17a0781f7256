"""Rows of tables to dataclasses and back, to the bit. Pure; no connection.

Dictionaries come back equal if they hold what JSON holds: text keys, lists rather than tuples, finite
numbers.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import RowMapping

from fsearch.search.rows import Attempt, AttemptSpec, DataFact, ModelFact

DATA, MODEL, TOLD = "data", "model", "told"
"""The kinds of facts: a `DataFact`, a `ModelFact`, what people were told."""

_SPEC = tuple(field.name for field in fields(AttemptSpec))
_OWN = tuple(field.name for field in fields(Attempt) if field.name not in ("spec", "try_number", "daemon"))


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """The columns of an attempt, but for `ended_sequence`."""
    row = {name: getattr(attempt.spec, name) for name in _SPEC}
    row |= {name: getattr(attempt, name) for name in _OWN}
    return row | {"try": attempt.try_number, "daemon": attempt.daemon or None}


def attempt_of(row: RowMapping) -> Attempt:
    """The attempt of a row of the table `attempt`."""
    spec = {name: row[name] for name in _SPEC} | {"halves": tuple(row["halves"])}
    own = {name: row[name] for name in _OWN} | {"first_losses": tuple(row["first_losses"])}
    return Attempt(spec=AttemptSpec(**spec), try_number=row["try"], daemon=row["daemon"] or "", **own)


def fact_row(fact: DataFact | ModelFact) -> dict[str, Any]:
    """The columns of a fact, but for `updated`."""
    payload = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(fact).items()
    }
    kind = DATA if isinstance(fact, DataFact) else MODEL
    return {"kind": kind, "key": payload.pop("key"), "payload": payload}


def data_fact_of(row: RowMapping) -> DataFact:
    """The fact about data of a row of the table `fact`."""
    payload = row["payload"]
    return DataFact(key=row["key"], **payload | {"origins": tuple(payload.get("origins", ()))})


def model_fact_of(row: RowMapping) -> ModelFact:
    """The fact about a model of a row of the table `fact`."""
    return ModelFact(key=row["key"], **row["payload"])
