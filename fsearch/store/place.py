"""Whether a path is fit to hold a record, judged before SQLite opens it for writing.

Looks only: nothing here changes a record. It does not notice a flipped byte inside a value, which
SQLite does not checksum.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from fsearch.store.errors import (
    StoreCorrupt,
    StoreMissing,
    StoreNetworkFileSystem,
    StoreReadOnly,
    StoreUnreadable,
    speaking,
)
from fsearch.store.schema import revision_of

_MOUNTS = Path("/proc/mounts")
_MAGIC = b"SQLite format 3\0"
_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "davfs", "afs", "coda", "9p"),
    *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "ocfs2", "gfs2"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs"),
)


def wal_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(path.name + "-wal")


def is_empty(path: Path) -> bool:
    """Whether the file is absent or has no bytes."""
    return not path.exists() or path.stat().st_size == 0


def database_uri(path: Path, options: str) -> str:
    """The URI by which SQLite opens a file with the given options."""
    return f"{path.absolute().as_uri()}?{options}"


def file_system_of(path: Path, mounts: str) -> str:
    """Type of the file system that holds an absolute path, by the text of /proc/mounts; "" if unknown."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # The kernel writes blanks in names as octal escapes.
        point = Path(fields[1].encode("latin-1", "backslashreplace").decode("unicode_escape"))
        # A later mount hides an earlier one on the same point.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def refuse_network_file_system(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raise StoreNetworkFileSystem where a folder lies on one."""
    if not mounts.exists():
        return  # not Linux: nothing to judge by
    kind = file_system_of(folder.resolve(), mounts.read_text(errors="surrogateescape"))
    if kind in _NETWORK:
        raise StoreNetworkFileSystem(
            f"{folder} lies on a network file system ({kind}), where SQLite's locks cannot be relied on "
            "and records get damaged. Give a folder on a local disk with --state."
        )


def refuse_read_only(path: Path) -> None:
    """Raise StoreReadOnly where the record or its folder may not be written."""
    files = [path, wal_of(path), path.with_name(path.name + "-shm")]
    for place in [path.parent, *(file for file in files if file.exists())]:
        if not os.access(place, os.W_OK):
            raise StoreReadOnly(
                f"{place} may not be written by this user, and a run writes its record there. "
                "Change its permissions, or give another folder with --state."
            )


def refuse_unreadable(path: Path) -> None:
    """Raise StoreMissing or StoreUnreadable where a viewer cannot look at a record."""
    if not path.exists():
        raise StoreMissing(f"There is no record at {path} yet. `fsearch run` begins one.")
    for file in (path, wal_of(path)):
        if file.exists() and not os.access(file, os.R_OK):
            raise StoreUnreadable(f"{file} may not be read by this user. Ask its owner for the permission.")


def refuse_orphaned_wal(path: Path) -> None:
    """Raise StoreCorrupt where a write-ahead log waits for a record that is gone."""
    if not is_empty(wal_of(path)):
        raise StoreCorrupt(
            f"The record {path} is gone, but its write-ahead log {wal_of(path)} is there and holds rows. "
            "Put the record back beside it, if you have it."
        )


def check_record(path: Path) -> str:
    """The schema revision of a whole record, read without changing a byte of it.

    Raises StoreCorrupt where it is cut off, damaged or no record, StoreNewer where its schema is unknown.
    """
    if not path.is_file():
        raise StoreCorrupt(f"{path} is not a file. Give another --state, or move it away.")
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head != _MAGIC:
        what = "is empty" if not head else "is not a SQLite database"
        raise StoreCorrupt(f"{path} {what}, where a record of fsearch should be. It was left as it is.")
    # The caller holds the writer's lock. Without rows in the log nothing beside the file is needed, and
    # nothing beside it is made.
    options = "immutable=1" if is_empty(wal_of(path)) else "mode=ro"
    with speaking(path):
        database = sqlite3.connect(database_uri(path, options), uri=True)
        try:
            complaints = [row[0] for row in database.execute("PRAGMA integrity_check(3)")]
            if complaints != ["ok"]:
                raise _damaged(path, complaints)
            return revision_of(database, path)
        finally:
            database.close()


def _damaged(path: Path, complaints: list[str]) -> StoreCorrupt:
    """The refusal of a record in which SQLite found damage."""
    found = "; ".join(" ".join(complaint.split()) for complaint in complaints)
    return StoreCorrupt(f"The record {path} is damaged ({found}). It was left as it is.")
