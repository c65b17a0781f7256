"""Beginning a new record, where none is.

The file appears under its name only when it is whole: killed before that, the next start begins anew and
clears what was left; killed after it, there is a record.
"""

from __future__ import annotations

import os
from pathlib import Path

from fsearch.store.engine import close, connect
from fsearch.store.errors import StoreReadOnly, speaking
from fsearch.store.place import refuse_orphaned_wal
from fsearch.store.schema import migrate
from fsearch.system import faults
from fsearch.system.files import sync_directory


def create_folder(folder: Path) -> None:
    """Make a folder and its missing parents, writable by their owner only. Raises StoreReadOnly."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        for place in reversed(missing):
            place.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise StoreReadOnly(
            f"The folder {folder} for the record cannot be made ({error.strerror}). Give another --state."
        ) from error


def create_record(path: Path) -> None:
    """Make an empty record at the newest schema. The caller holds the writer's lock on the folder.

    Raises StoreCorrupt where a write-ahead log without its record lies there.
    """
    refuse_orphaned_wal(path)
    new = path.with_name(path.name + ".new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    connection = connect(
        new, "mode=rwc", begin="BEGIN IMMEDIATE", pragmas=["journal_mode=WAL", "synchronous=FULL"], wait_s=0.0
    )
    try:
        with speaking(path):
            migrate(connection)
    finally:
        close(connection)
    faults.point("before a new record is in its place")
    os.rename(new, path)
    faults.point("after a new record is in its place")
    sync_directory(path.parent)
