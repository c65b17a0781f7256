"""One daemon for each GPU, and one for the CPU of a machine: a flock that dies with its holder.

The lock file is readable and writable by all, so that two users exclude each other, and holds who has
it, for the message to the one who has to wait.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fsearch.system import faults
from fsearch.system.scratch import locked


class LockHeld(Exception):
    """Somebody else uses the device; the message says who."""


class DeviceLock:
    """The exclusive right to a device, held until `release` or the end of the process."""

    def __init__(self, device: str, holder: dict[str, Any]) -> None:
        """Take the lock of `device`, e.g. "cpu"; `holder` says who we are (pid, host, user, plan).

        Raises:
            LockHeld: another process has it.
        """
        folder = folder_of_locks()
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"fsearch-{device}.lock"
        self._fd = _open_shared(self.path)
        faults.point("before the device is locked")
        if not locked(self._fd):
            held_by = _holder(self._fd)
            os.close(self._fd)
            raise LockHeld(f"the {device} of this machine is in use by {held_by}")
        faults.point("after the device is locked")
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(holder).encode(), 0)
        except OSError:
            pass  # another user's file that may only be read: the lock holds all the same

    def release(self) -> None:
        faults.point("before the device is given back")
        os.close(self._fd)


def folder_of_locks() -> Path:
    """Where the locks of this machine lie."""
    return Path(os.environ.get("FSEARCH_LOCK_DIR") or "/tmp")


def held(locks: str) -> dict[str, str]:
    """Which devices are in use, and by whom. `locks` is the text of /proc/locks: no lock is touched.

    Raises OSError where the folder of the locks cannot be read.
    """
    inodes = {line.split()[-3].rpartition(":")[2] for line in locks.splitlines() if " FLOCK " in line}
    found = {}
    for path in sorted(folder_of_locks().glob("fsearch-*.lock")):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if str(os.fstat(fd).st_ino) in inodes:
                found[path.stem.removeprefix("fsearch-")] = _holder(fd)
        finally:
            os.close(fd)
    return found


def _open_shared(path: Path) -> int:
    """The lock file, made for everyone; another user's is opened as far as it allows."""
    flags = os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(fd, 0o666)
        return fd
    except FileExistsError:
        pass
    try:
        return os.open(path, flags | os.O_RDWR)
    except PermissionError:
        return os.open(path, flags | os.O_RDONLY)


def _holder(fd: int) -> str:
    try:
        who = json.loads(os.pread(fd, 4096, 0))
        return "pid {pid} on {host} (user {user}), which runs {plan}".format(**who)
    except (ValueError, KeyError, TypeError):
        return "another fsearch, which has not said who it is"
