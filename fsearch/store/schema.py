"""Which schema a record has, and bringing it to the newest.

A migration and the record that it was made are one transaction: killed or failing anywhere, the file is
as it was. Opening a record that is up to date does not import alembic, which is slow.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection

from fsearch.store.errors import StoreCorrupt, StoreNewer

HEAD = "0007"
MIGRATIONS = Path(__file__).parent / "migrations"


def known_revisions(migrations: Path = MIGRATIONS) -> list[str]:
    """Revisions this fsearch can read or migrate, oldest first: m0001_what_it_does.py is 0001."""
    return sorted(file.name[1:5] for file in migrations.glob("m[0-9][0-9][0-9][0-9]_*.py"))


def revision_of(database: sqlite3.Connection, path: Path) -> str:
    """The schema of an open record. Raises StoreCorrupt where it is no record, StoreNewer where unknown."""
    named = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    found = database.execute(named).fetchone()
    rows = database.execute("SELECT version_num FROM alembic_version").fetchall() if found else []
    if len(rows) != 1:
        raise StoreCorrupt(
            f"{path} is a SQLite database but not a record of fsearch. It was left as it is: "
            "give another --state, or move the file away."
        )
    revision = str(rows[0][0])
    if revision not in known_revisions():
        raise StoreNewer(
            f"The record {path} has schema {revision}, and this fsearch knows schemas up to {HEAD}. "
            "It was left as it is: use the newer fsearch that wrote it, or another --state."
        )
    return revision


def migrate(connection: Connection, migrations: Path = MIGRATIONS) -> None:
    """Bring the record to the newest schema of the folder, in one transaction of `connection`."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(migrations), version_locations=[str(migrations)])

    def upgrade(revision: object, context: MigrationContext) -> list[RevisionStep]:
        return scripts._upgrade_revs("head", revision)  # type: ignore[arg-type]

    with connection.begin(), EnvironmentContext(Config(), scripts, fn=upgrade) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
