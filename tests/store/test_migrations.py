"""Schemas: migrations and tables agree, a migration is whole or not at all, old records open."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from fsearch.store import Store, open_reader
from fsearch.store.engine import close, connect
from fsearch.store.schema import HEAD, MIGRATIONS, known_revisions, migrate
from fsearch.store.tables import metadata

from .store_samples import CURVE, FACT, RESULT, SAMPLES, SPEC, contents, ready, run_one

FIXTURE = Path(__file__).parent / "fixtures" / "schema_0001.sql"
NEXT = """
from alembic import op
revision, down_revision = "0002", "0001"
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


def with_next(folder: Path, third: str = "") -> Path:
    """Our migrations, a second one, and a third one that says `third`, if anything."""
    shutil.copytree(MIGRATIONS, folder)
    (folder / "m0002_later.py").write_text(NEXT)
    if third:
        text = f'revision, down_revision = "0003", "0002"\ndef upgrade():\n    {third}\n'
        (folder / "m0003_latest.py").write_text(text)
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
    assert state_of(path) == ("0002", "migrated", True)


def test_a_failing_migration_changes_nothing(path: Path, tmp_path: Path) -> None:
    """Of two pending migrations the second fails: nothing of the first stays either, nor its revision."""
    ready(path).close()
    before = contents(path.parent)
    with pytest.raises(ZeroDivisionError):
        migrate_file(path, with_next(tmp_path / "migrations", "1 / 0"))
    assert state_of(path) == ("0001", "demo", False)
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
    assert state_of(path) == ("0001", "demo", False)
    with Store.open(path) as store:
        run = store.plans()
    assert [plan.name for plan in run] == ["demo"]


@pytest.fixture
def released(path: Path) -> Path:
    """The record of the first released schema, from its dump."""
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.executescript(FIXTURE.read_text())
    database.close()
    return path


def test_a_record_of_the_first_schema_opens(released: Path) -> None:
    """Every row of a record written at schema 0001 is read as it was, and the record can be written on."""
    with Store.open(released) as store:
        pass
    with open_reader(released) as reader:
        finished, noop, running = reader.attempts()
        assert finished.spec == SPEC
        assert {name: getattr(finished, name) for name in RESULT} == RESULT
        assert (noop.outcome, running.outcome) == ("noop", None)
        assert reader.evaluations("a0", 1) == CURVE and reader.telemetry("a0", 1) == SAMPLES
        assert reader.facts() == {"d1": FACT}
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
