"""Looking at a record without being able to harm it, also as a user who may not write its folder.

SQLite reads a write-ahead log through a shared file beside it, which a stranger cannot create. So:
plain read-only first; if refused and the log is absent or empty, `immutable`; if refused with rows in the
log, a private copy. `immutable` ignores the log and would miss those rows, hence never beside them. In
the last two ways nothing holds a writer off: each answer is kept only if the files did not change while
it was read.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection

from fsearch.store.engine import close, connect
from fsearch.store.errors import StoreError, StoreLocked, StoreOlder, StoreReadOnly, speaking
from fsearch.store.place import is_empty, refuse_unreadable, wal_of
from fsearch.store.queries import Queries
from fsearch.store.schema import HEAD, revision_of

T = TypeVar("T")

_TRIES = 40
_PAUSE_S = 0.05
_WAIT_S = 5.0

Look = tuple[tuple[int, int, int, int] | None, ...]
"""Identity, size and time of change of the database and its log: equal looks, equal contents."""


def open_reader(path: Path | str) -> Reader:
    """Open a record for reading.

    Raises StoreMissing, StoreUnreadable, StoreCorrupt, StoreNewer or StoreOlder.
    """
    reader = Reader(Path(path).absolute())
    try:
        reader.look()
    except BaseException:
        reader.close()
        raise
    return reader


class Reader(Queries):
    """A viewer of one record, for one thread at a time. Made by `open_reader`; also a context manager.

    It may stay open for hours: it holds no transaction between questions and follows the record when
    a daemon starts, ends, or puts another file in its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._resources = ExitStack()
        self._connection: Connection | None = None
        self._shared = False  # SQLite's locks protect the answers
        self._seen: Look = ()

    def look(self) -> None:
        """Check that the record can be read."""
        self._read(lambda connection: None)

    def close(self) -> None:
        """Let go of the files, and of the private copy if there is one."""
        self._connection = None
        self._resources.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, query: Callable[[Connection], T]) -> T:
        for _ in range(_TRIES):
            before = _look_at(self.path)
            try:
                if self._connection is None or not self._still_good(before):
                    self._open(before)
                assert self._connection is not None
                with speaking(self.path), self._connection.begin():
                    answer = query(self._connection)
            except (StoreError, FileNotFoundError):
                if self._shared or _look_at(self.path) == before:
                    raise
            else:
                if self._shared or _look_at(self.path) == before:
                    return answer
            self.close()
            time.sleep(_PAUSE_S)
        raise StoreLocked(f"The record {self.path} kept changing while it was read. Try again.")

    def _still_good(self, now: Look) -> bool:
        if self._shared:
            return _identity(now) == _identity(self._seen)
        return now == self._seen

    def _open(self, seen: Look) -> None:
        """Open the record in the first of the three ways that works."""
        self.close()
        refuse_unreadable(self.path)
        self._seen = seen
        try:
            self._shared = True
            self._use(self.path, "mode=ro")
        except StoreReadOnly:
            self._shared = False
            if is_empty(wal_of(self.path)):
                self._use(self.path, "immutable=1")
            else:
                self._use(self._copy(), "mode=rw")

    def _copy(self) -> Path:
        folder = self._resources.enter_context(TemporaryDirectory(prefix="fsearch-"))
        copy = Path(folder) / self.path.name
        for source, target in ((self.path, copy), (wal_of(self.path), wal_of(copy))):
            shutil.copyfile(source, target)
        return copy

    def _use(self, file: Path, options: str) -> None:
        connection = connect(
            file, options, begin="BEGIN", pragmas=["query_only=ON"], wait_s=_WAIT_S, any_thread=True
        )
        try:
            with speaking(self.path):
                database = connection.connection.driver_connection
                assert isinstance(database, sqlite3.Connection)
                revision = revision_of(database, self.path)
            if revision != HEAD:
                raise StoreOlder(
                    f"The record {self.path} has schema {revision}, older than {HEAD}. "
                    "`fsearch run` brings it up to date; viewers change nothing."
                )
        except BaseException:
            close(connection)
            raise
        self._resources.callback(close, connection)
        self._connection = connection


def _look_at(path: Path) -> Look:
    looks: list[tuple[int, int, int, int] | None] = []
    for file in (path, wal_of(path)):
        try:
            found = file.stat()
        except FileNotFoundError:
            looks.append(None)
        else:
            looks.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(looks)


def _identity(look: Look) -> tuple[int, int] | None:
    return look[0][:2] if look and look[0] else None
