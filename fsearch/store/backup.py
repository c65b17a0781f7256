"""Copies of a record beside it: how one is made, which ones there are, how to go on from the newest good one.

A copy is taken through the connection of the one writer, in steps, from any thread: SQLite lets the writer
write on between two steps and carries what it writes into the copy. It has its name only when it is whole,
checked and on the disk.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from fsearch.store.create import create_folder
from fsearch.store.errors import StoreError, StoreFull, speaking
from fsearch.store.place import check_record, wal_of
from fsearch.system.disk import require_room
from fsearch.system.files import sync_directory

STEP_PAGES = 256
"""1 MiB: what the writer waits for at most, if it writes during a copy."""

STEP_PAUSE_S = 0.002
"""Between two steps, so that a writer who waits gets its turn."""


def folder_of(path: Path) -> Path:
    """Where the copies of a record lie."""
    return path.parent / "backups"


def backups(path: Path) -> list[Path]:
    """The copies of a record, oldest first, whether they are good or not."""
    return sorted(folder_of(path).glob(f"{path.stem}-[0-9]*{path.suffix}"))


def backup_name(path: Path, sequence: int) -> Path:
    """The copy of a record whose newest sequence number is `sequence`."""
    return folder_of(path) / f"{path.stem}-{sequence:012}{path.suffix}"


def make_backup(source: sqlite3.Connection, path: Path, target: Path, proceed: Callable[[], bool]) -> bool:
    """Copy the record `path`, open as `source`, to `target`; False if `proceed` said no between two steps.

    Raises StoreError, with nothing new left: StoreFull where there is no room, StoreCorrupt where the copy is
    damaged.
    """
    create_folder(target.parent)
    for left in target.parent.glob(".*.tmp*"):  # by a killed writer
        left.unlink(missing_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    wanted_bytes = sum(file.stat().st_size for file in (path, wal_of(path)) if file.exists())
    try:
        require_room(target.parent, wanted_bytes)
    except OSError as error:
        raise StoreFull(f"{target.parent}: {error.strerror}.") from error

    def step(status: int, remaining: int, total: int) -> None:
        time.sleep(STEP_PAUSE_S)
        if not proceed():
            raise InterruptedError

    try:
        with speaking(temporary), contextlib.closing(sqlite3.connect(temporary)) as copy:
            copy.execute("PRAGMA synchronous=OFF")  # synced below, once
            source.backup(copy, pages=STEP_PAGES, progress=step, sleep=STEP_PAUSE_S)
        check_record(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(temporary, target)
        sync_directory(target.parent)
    except InterruptedError:
        return False
    except OSError as error:
        raise StoreError(f"{target} could not be written ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def going_on(path: Path) -> str:
    """What a person whose record is damaged can do, as the last good copy allows; commands included."""
    for backup in reversed(backups(path)):
        try:
            check_record(backup)
        except (StoreError, OSError):
            continue
        aside = next(
            place for number in range(1, 10_000) if not (place := path.parent / f"damaged-{number}").exists()
        )
        record, folder = shlex.quote(str(path)), shlex.quote(str(aside))
        return (
            f"The last good backup is {backup}. To go on from it, put the record and its log aside first:\n"
            f"  mkdir {folder}\n"
            f"  mv {record}* {folder}\n"
            f"  cp {shlex.quote(str(backup))} {record}"
        )
    return (
        f"There is no good backup in {folder_of(path)}: restore the record from a copy of your own, or "
        "move it and its log away to begin a new one."
    )
