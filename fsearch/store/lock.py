"""One writer a record: a lock on its folder that goes with the process, however it dies.

It leaves nothing to clean up. It keeps no viewer away, and no SQLite shell.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fsearch.store.errors import StoreLocked, StoreReadOnly


def lock_folder(path: Path) -> int:
    """Take the one writer's lock; the open folder that holds it. Raises StoreLocked.

    The folder, not the database: closing a second descriptor of the database would drop SQLite's locks.
    """
    lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise StoreReadOnly(f"The folder {path.parent} cannot be locked ({error.strerror}).") from error
        raise StoreLocked(
            f"Another fsearch is writing to the record {path}, and a record has one writer. Wait for it, "
            "end it, or give this one its own --state."
        ) from error
    return lock
