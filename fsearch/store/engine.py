"""One SQLAlchemy connection to one SQLite file, with transactions that really begin.

The driver by itself delays BEGIN and hides it before schema changes; the two hooks here are those of
SQLAlchemy's SQLite page ("Enabling Non-Legacy SQLite Transactional Modes").
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from fsearch.store.errors import speaking
from fsearch.store.place import database_uri


def connect(
    path: Path,
    options: str,
    *,
    begin: Literal["BEGIN", "BEGIN IMMEDIATE"],
    pragmas: Sequence[str],
    wait_s: float,
    any_thread: bool = False,
) -> Connection:
    """Open a file once; `close` gives it back.

    options: of SQLite's URI, such as "mode=ro". begin: how each transaction starts. pragmas: said once.
    wait_s: how long to wait for another process's lock. Raises StoreError.
    """

    def open_file() -> sqlite3.Connection:
        database = sqlite3.connect(
            database_uri(path, options),
            uri=True,
            timeout=wait_s,
            isolation_level=None,  # the driver is to begin nothing by itself
            check_same_thread=not any_thread,
        )
        try:
            for pragma in pragmas:
                database.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            database.close()
            raise
        return database

    engine = create_engine("sqlite://", creator=open_file, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def really_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    with speaking(path):
        return engine.connect()


def close(connection: Connection) -> None:
    """Close the connection and its file; the last writer to close folds the log into the database."""
    connection.close()
    connection.engine.dispose()
