"""The tables of the record, as the newest schema has them.

The names of the columns of `attempt` are the names of the fields of `Attempt` and `AttemptSpec`
(`try` for `try_number`). What is searched or read by people is a column; what is only carried is JSON.
Nothing here creates a table: migrations do, and a test holds them to this page.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect


class Json(TypeDecorator[Any]):
    """Text holding JSON. Floats come back to the bit; NaN and infinities are refused with ValueError."""

    impl = Text
    cache_ok = True

    def __init__(self, *, shared: bool) -> None:
        """`shared`: most rows say the same, and share one value in memory, which is not to be changed."""
        super().__init__()
        self.shared = shared

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return _shared(value) if self.shared else json.loads(value)


_shared = lru_cache(maxsize=4096)(json.loads)


metadata = MetaData(
    naming_convention={  # named, so that later migrations can drop what they must
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _text(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=nullable)


def _integer(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Integer, nullable=nullable)


def _real(name: str) -> Column[Any]:
    return Column(name, REAL)


def _json(name: str, *, shared: bool = True) -> Column[Any]:
    return Column(name, Json(shared=shared), nullable=False)


plan = Table(
    "plan",
    metadata,
    Column("id", Text, primary_key=True),
    Column("position", Integer, nullable=False, unique=True),
    _text("name"),
    _text("path"),
    _text("text"),
    _text("first_asked"),
)

fact = Table(
    "fact",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _json("payload", shared=False),
    _text("updated"),
)

daemon = Table(
    "daemon",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    _integer("pid"),
    _real("pid_started"),
    _text("host"),
    _text("plan"),
    _text("lock"),
    _text("sqlite_version"),
    _text("started"),
    _text("beat_at"),
    _text("step"),
    _text("ended", nullable=True),
    Column("progress", Json(shared=False), nullable=False, server_default="{}"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Text, primary_key=True),
    Column("try", Integer, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("ended_sequence", Integer, unique=True),
    Column("plan", Text, ForeignKey("plan.id"), nullable=False, index=True),  # who asked first
    _text("search"),
    Column("search_key", Text, nullable=False, index=True),
    _text("task"),
    _json("arguments"),
    _json("model"),
    _json("recipe"),
    _integer("batch"),
    _integer("micro_batch"),
    _text("stage"),
    _text("role"),
    _integer("steps"),
    _json("halves"),
    _json("evaluate"),
    _text("variant"),
    _json("form"),
    _integer("seed"),
    _integer("master_seed"),
    _text("outcome", nullable=True),
    _text("outcome_class", nullable=True),
    _text("reason"),
    _text("pattern"),
    _text("fingerprint"),
    Column("daemon", Text, ForeignKey("daemon.id")),
    Column("ended_monotonic_s", REAL, nullable=False),
    _real("score"),
    _real("loss"),
    _real("acc_pooled"),
    _real("screen_score"),
    _real("screen_loss"),
    _integer("steps_done"),
    _integer("tokens"),
    _text("backend"),
    _json("first_losses", shared=False),
    _text("early_weights_sha256"),
    _text("weights_sha256"),
    _json("seconds", shared=False),
    _real("peak_memory_mib"),
    _real("energy_mj"),
    _json("fingerprints"),
    _integer("pid", nullable=True),
    _real("pid_started"),
    _text("started_at"),
    _text("ended_at"),
    Column("metrics", Json(shared=False), nullable=False, server_default="{}"),
    _real("retry_after_s"),
    _integer("memory_mib", nullable=True),
    _real("look_score"),
    Column("screen_metrics", Json(shared=False), nullable=False, server_default="{}"),
    Column("unavailable", Json(shared=True), nullable=False, server_default="{}"),
    _real("idle_s"),
    CheckConstraint(
        "(outcome IS NULL) = (outcome_class IS NULL) AND (outcome IS NULL) = (ended_sequence IS NULL)",
        name="ended_wholly",
    ),
)
Index("ix_attempt_unfinished", attempt.c.sequence, sqlite_where=attempt.c.outcome.is_(None))


def _of_attempt() -> tuple[Column[Any], Column[Any]]:
    return Column("attempt", Text, primary_key=True), Column("try", Integer, primary_key=True)


def _belongs_to_attempt() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["attempt", "try"], ["attempt.id", "attempt.try"])


evaluation = Table(
    "evaluation",
    metadata,
    *_of_attempt(),
    Column("step", Integer, primary_key=True),
    Column("half", Text, primary_key=True),
    _real("score"),
    _real("acc_pooled"),
    _real("loss"),
    _integer("examples"),
    Column("metrics", Json(shared=False), nullable=False, server_default="{}"),
    _belongs_to_attempt(),
    sqlite_with_rowid=False,
)

example_score = Table(
    "example_score",
    metadata,
    *_of_attempt(),
    Column("half", Text, primary_key=True),
    _integer("examples"),
    Column("packed", LargeBinary, nullable=False),  # see fsearch.store.scores
    _belongs_to_attempt(),
)

example_metric = Table(
    "example_metric",
    metadata,
    *_of_attempt(),
    Column("half", Text, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("packed", LargeBinary, nullable=False),  # float64 [examples], little-endian; NaN: not judged
    _belongs_to_attempt(),
)

telemetry = Table(
    "telemetry",
    metadata,
    *_of_attempt(),
    Column("offset_s", REAL, primary_key=True),
    _real("utilisation"),
    _real("memory_mib"),
    _real("power_w"),
    _real("temperature_c"),
    _real("energy_mj"),
    _belongs_to_attempt(),
    sqlite_with_rowid=False,
)

event = Table(
    "event",
    metadata,
    Column("sequence", Integer, primary_key=True),
    _text("time"),
    _text("level"),
    _text("text"),
    _text("attempt", nullable=True),
    _integer("try", nullable=True),
    _text("plan", nullable=True),
)
