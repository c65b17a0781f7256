"""Schemas: migrations and tables agree, a migration is whole or not at all, old records open."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from fsearch.store import Store, open_reader
from fsearch.store.engine import close, connect
from fsearch.store.place import is_empty, wal_of
from fsearch.store.schema import HEAD, MIGRATIONS, known_revisions, migrate
from fsearch.store.tables import metadata

from .store_samples import CURVE, FACT, RESULT, SAMPLES, SPEC, contents, ready, run_one

LATER, LATEST = (f"{int(HEAD) + ahead:04}" for ahead in (1, 2))
NEXT = f"""
from alembic import op
revision, down_revision = "{LATER}", "{HEAD}"
def upgrade():
    op.execute("CREATE TABLE later (x)")
    op.execute("UPDATE \\"plan\\" SET name = 'migrated'")
"""


def schema_of(path: Path) -> dict[str, str]:
    database = sqlite3.connect(path)
    rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    database.close()
    return {name: re.sub(r"\s+", "", sql) for name, sql in rows if name != "alembic_version"}


def test_migrations_make_the_tables(path: Path, tmp_path: Path) -> None:
    """A record made by migrations has the schema of fsearch.store.tables, statement for statement."""
    Store.open(path).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'tables.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema_of(path) == schema_of(tmp_path / "tables.db")


def test_the_newest_migration_is_the_head() -> None:
    """What is called newest without alembic is what alembic calls so; file names tell the revisions."""
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)])
    assert scripts.get_heads() == [HEAD] and known_revisions()[-1] == HEAD
    assert sorted(script.revision for script in scripts.walk_revisions()) == known_revisions()


def with_next(folder: Path, latest: str = "") -> Path:
    """Our migrations, a later one, and the latest one that says `latest`, if anything."""
    shutil.copytree(MIGRATIONS, folder)
    (folder / f"m{LATER}_later.py").write_text(NEXT)
    if latest:
        text = f'revision, down_revision = "{LATEST}", "{LATER}"\ndef upgrade():\n    {latest}\n'
        (folder / f"m{LATEST}_latest.py").write_text(text)
    return folder


def migrate_file(path: Path, migrations: Path) -> None:
    connection = connect(path, "mode=rw", begin="BEGIN IMMEDIATE", pragmas=["synchronous=FULL"], wait_s=0.0)
    try:
        migrate(connection, migrations)
    finally:
        close(connection)


def state_of(path: Path) -> tuple[str, str, bool]:
    database = sqlite3.connect(path)
    (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    (name,) = database.execute('SELECT name FROM "plan"').fetchone()
    later = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (1,)
    database.close()
    return version, name, later


def test_a_migration_and_its_record_come_together(path: Path, tmp_path: Path) -> None:
    """A later migration changes schema, rows and recorded revision."""
    ready(path).close()
    migrate_file(path, with_next(tmp_path / "migrations"))
    assert state_of(path) == (LATER, "migrated", True)


def test_a_failing_migration_changes_nothing(path: Path, tmp_path: Path) -> None:
    """Of two pending migrations the second fails: nothing of the first stays either, nor its revision."""
    ready(path).close()
    before = contents(path.parent)
    with pytest.raises(ZeroDivisionError):
        migrate_file(path, with_next(tmp_path / "migrations", "1 / 0"))
    assert state_of(path) == (HEAD, "demo", False)
    assert contents(path.parent) == before


def test_a_migration_killed_before_its_end_changes_nothing(path: Path, tmp_path: Path) -> None:
    """SIGKILL inside the second of two pending migrations leaves the former schema."""
    ready(path).close()
    migrations = with_next(tmp_path / "migrations", "import os; os.kill(os.getpid(), 9)")
    child = os.fork()
    if child == 0:
        migrate_file(path, migrations)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    assert state_of(path) == (HEAD, "demo", False)
    with Store.open(path) as store:
        run = store.plans()
    assert [plan.name for plan in run] == ["demo"]


def test_a_record_of_the_first_schema_opens(released: Path) -> None:
    """Every row of a record written at schema 0001 is read as it was, and the record can be written on."""
    with Store.open(released) as store:
        pass
    with open_reader(released) as reader:
        finished, noop, running = reader.attempts()
        assert finished.spec == SPEC
        expected = RESULT | {"metrics": {}, "retry_after_s": None, "look_score": None}
        assert {name: getattr(finished, name) for name in RESULT} == expected
        assert (noop.outcome, running.outcome) == ("noop", None)
        assert reader.evaluations("a0", 1) == CURVE and reader.telemetry("a0", 1) == SAMPLES
        assert reader.facts() == {"d1": replace(FACT, origins=())}
        scores = reader.example_scores("a0", 1, "screen")
        assert (
            scores is not None and scores.correct.tolist() == [3, 0] and scores.loss.tolist() == [0.5, 2.25]
        )
        assert [plan.text for plan in reader.plans()] == ["name: demo  # ü\n"]
        assert [event.text for event in reader.events()] == ["attempt a0 ended"]
        assert (daemon := reader.daemon()) is not None and daemon.id == "d1"
    with Store.open(released) as store:
        store.interrupt_unfinished("found running")
        run_one(store, 7)
        assert [attempt.outcome for attempt in store.attempts()][1:] == ["noop", "interrupted", "completed"]


Contents = dict[str, list[dict[str, object]]]


def rows_of(path: Path) -> Contents:
    """Every row of every table but alembic's, as SQLite has it; the log stays as it is."""
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    names = [row["name"] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        name: [dict(row) for row in database.execute(f'SELECT * FROM "{name}"')]
        for name in names
        if name != "alembic_version"
    }
    database.close()
    return found


def write_and_die(path: Path) -> None:
    """Leave a row in the write-ahead log, as a killed daemon does."""
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("INSERT INTO event VALUES (1000, 'now', 'info', 'the last words', NULL, NULL, NULL)")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_of_the_first_schema_keeps_every_row(released_run: Path, killed: bool) -> None:
    """Every value of every table that a release wrote is there after the migration, those in the log of a
    killed daemon too; its attempts have no metrics, nobody's wish to wait, no known limit, no look, no
    completions and no known gap before them."""
    if killed:
        write_and_die(released_run)
    before = rows_of(released_run)
    assert is_empty(wal_of(released_run)) != killed
    with Store.open(released_run):
        pass
    after = rows_of(released_run)
    new = {"metrics": "{}", "retry_after_s": None, "memory_mib": None, "look_score": None}
    new |= {"screen_metrics": "{}", "unavailable": "{}", "idle_s": None}
    assert len(before["attempt"]) == 14 and len(before["example_score"]) == 16 and before["evaluation"]
    assert [event["text"] for event in before["event"]] == ["the last words"] * killed
    assert after == before | {
        "attempt": [row | new for row in before["attempt"]],
        "daemon": [row | {"progress": "{}"} for row in before["daemon"]],
        "evaluation": [row | {"metrics": "{}"} for row in before["evaluation"]],
        "example_metric": [],
    }
    assert state_of(released_run)[0] == HEAD
    with open_reader(released_run) as reader:
        read = reader.attempts()
        assert [attempt.score for attempt in read] == [row["score"] for row in before["attempt"]]
        assert all(attempt.metrics == {} and attempt.retry_after_s is None for attempt in read)
        assert all(attempt.spec.memory_mib is None and attempt.look_score is None for attempt in read)
