"""What can be wrong with a record, each as a sentence that a person can act on.

    StoreError                     anything below; nothing was changed
      StoreMissing                 there is no record at this path
      StoreUnreadable              the file may not be read by this user
      StoreReadOnly                the file or its folder may not be written by this user
      StoreNetworkFileSystem       the file system does not keep SQLite's promises
      StoreCorrupt                 not a database, cut off, damaged, or not a record of fsearch
      StoreNewer                   written by a newer fsearch
      StoreOlder                   written by an older fsearch, and this process may not migrate it
      StoreLocked                  somebody else is writing
      StoreFull                    no space left
      StoreConflict                a write contradicts what is recorded already

`speaking` turns the driver's errors into these; it decides by SQLite's result code, never by text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError


class StoreError(Exception):
    """The record cannot be used as asked. The message is a sentence for a person."""


class StoreMissing(StoreError):
    """There is no record at the path."""


class StoreUnreadable(StoreError):
    """The file may not be read by this user."""


class StoreReadOnly(StoreError):
    """The file or its folder may not be written by this user."""


class StoreNetworkFileSystem(StoreError):
    """The record lies on a file system whose locks cannot be relied on."""


class StoreCorrupt(StoreError):
    """The file is damaged, cut off, or not a record of fsearch. It is never replaced."""


class StoreNewer(StoreError):
    """The record was written by a newer fsearch."""


class StoreOlder(StoreError):
    """The record was written by an older fsearch and is opened without the right to migrate it."""


class StoreLocked(StoreError):
    """Another process holds the record for longer than the wait."""


class StoreFull(StoreError):
    """The disk is full; the write was rolled back and can be made again."""


class StoreConflict(StoreError):
    """A write contradicts what is recorded already; the record wins."""


_BY_RESULT_CODE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_CORRUPT: (
        StoreCorrupt,
        "The record {path} is damaged ({detail}). It was left as it is.",
    ),
    sqlite3.SQLITE_NOTADB: (
        StoreCorrupt,
        "{path} is not a SQLite database ({detail}). It was left as it is.",
    ),
    sqlite3.SQLITE_BUSY: (
        StoreLocked,
        "The record {path} is locked by another process ({detail}). End that process, or try again.",
    ),
    sqlite3.SQLITE_READONLY: (
        StoreReadOnly,
        "The record {path} cannot be written ({detail}). Give this user the right to write the file, "
        "its -wal and -shm, and their folder, or use another --state.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        StoreReadOnly,
        "The record {path} cannot be opened ({detail}). Give this user the right to write the file, "
        "its -wal and -shm, and their folder, or use another --state.",
    ),
    sqlite3.SQLITE_FULL: (
        StoreFull,
        "No space is left for the record {path} ({detail}). Make room; nothing was written by halves.",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        StoreConflict,
        "The record {path} refused a row that contradicts it ({detail}).",
    ),
}
_NO_ROOM = {
    sqlite3.SQLITE_IOERR_WRITE,  # a quota, or a limit on the size of files
    sqlite3.SQLITE_IOERR_SHMSIZE,  # a full disk too, where the scratch file of locks has to grow
}
_OTHERWISE = (StoreError, "The record {path} could not be used ({detail}). Nothing was written by halves.")


def sentence(path: Path, error: sqlite3.Error) -> StoreError:
    """The exception, with its sentence, for an error of the driver."""
    code = getattr(error, "sqlite_errorcode", None)  # absent where the error is Python's own
    if code in _NO_ROOM:
        code = sqlite3.SQLITE_FULL
    # The low byte is the primary code; the rest says which variety.
    kind, text = _BY_RESULT_CODE.get(code & 0xFF, _OTHERWISE) if code is not None else _OTHERWISE
    return kind(text.format(path=path, detail=error))


@contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Raise `StoreError` with a sentence for every error of SQLite inside the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise sentence(path, error) from error
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.Error):
            raise
        raise sentence(path, error.orig) from error
