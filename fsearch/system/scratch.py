"""Folders that end with the process that made them, even if it is killed; and turns between processes.

Both rest on `flock`, which the kernel gives up for a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOOK_EVERY_S = 1.0


@contextmanager
def alone(lock: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the file `lock` against other processes. `waiting` is called once a second until it is ours."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while waiting is not None and not locked(fd):
            waiting()
            time.sleep(_LOOK_EVERY_S)
        if waiting is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, gone at the end; those that killed processes left are removed on the way.

    Raises OSError where `parent` cannot be written.
    """
    with alone(parent / ".scratch.lock"):  # between making a folder and locking it nobody else looks
        for old in parent.glob(".scratch-*"):
            _remove_if_left(old)
        folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=parent))
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _remove_if_left(folder: Path) -> None:
    with suppress(FileNotFoundError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if locked(fd):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)


def locked(fd: int) -> bool:
    """Take the lock of an open file or folder if it is free; whether it is ours now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
