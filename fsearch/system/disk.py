"""Room on a disk: how much of it is kept free, and the refusal to write into what is kept.

A record, a log and a checkpoint lie on one disk as a rule. What is large asks first, so that it is never the
record that finds the disk full.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

KEPT_BYTES = 64 << 20
"""What is kept free for the record and the logs, which ask for no room."""

_MIB = 1 << 20


def free_bytes(place: Path) -> int:
    """What this user may still write where `place` is, or will be once its folders are made.

    Raises OSError.
    """
    while not place.exists():
        place = place.parent
    system = os.statvfs(place)
    return system.f_bavail * system.f_frsize


def require_room(place: Path, wanted_bytes: int) -> None:
    """Refuse to write so much at `place` if less than KEPT_BYTES would be left.

    Raises OSError with ENOSPC, as the write itself would, but before anything is written.
    """
    free = free_bytes(place)
    if free < wanted_bytes + KEPT_BYTES:
        wanted = f"{wanted_bytes / _MIB:.1f} MiB are to be written"
        kept = f"of the {free / _MIB:.1f} MiB that are free {KEPT_BYTES // _MIB} are kept for the record"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {wanted}, and {kept}", str(place))


def shortage(place: Path) -> str:
    """The sentence about a disk that has not even the room that is kept; "" if it has."""
    free = free_bytes(place)
    if free >= KEPT_BYTES:
        return ""
    return (
        f"waiting for room on the disk of {place}: {free / _MIB:.1f} MiB are free, {KEPT_BYTES // _MIB} are "
        "wanted; it goes on by itself once there is room"
    )
