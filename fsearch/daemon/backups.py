"""When the record is copied to `backups/` in the state: as a daemon starts and every hour, if there is news.

A copy is made by a thread of its own, in small steps, so that the loop goes on meanwhile. What goes wrong
with one is told and stops nothing.
"""

from __future__ import annotations

import threading
import time

from fsearch.store import Store, StoreError
from fsearch.store.backup import backup_name, backups

EVERY_S = 3600.0
KEPT = 5
PATIENCE_S = 5.0


class Backups:
    """The copies of the one record that a daemon writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_s = time.monotonic()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failure = ""

    def tend(self) -> str:
        """Begin a copy if one is due. Gives what went wrong with the last one, once; "" for nothing."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
        if self._thread is None and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            sequence = self._store.last_sequence()
            if sequence and not backup_name(self._store.path, sequence).exists():
                self._thread = threading.Thread(target=self._make, args=(sequence,), name="backup")
                self._thread.start()
        failure, self._failure = self._failure, ""
        return failure

    def __enter__(self) -> Backups:
        return self

    def __exit__(self, *failure: object) -> None:
        """Give the copy that is being made `PATIENCE_S` more, then give it up and wait for its thread."""
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            self._stopping.set()
            self._thread.join()

    def _make(self, sequence: int) -> None:
        target = backup_name(self._store.path, sequence)
        try:
            if self._store.backup(target, lambda: not self._stopping.is_set()):
                for old in backups(self._store.path)[:-KEPT]:
                    old.unlink(missing_ok=True)
        except (StoreError, OSError) as error:
            self._failure = f"the record could not be backed up: {error}"
