"""Files that are either the old one or the new one, never half of each.

Deliberately not here: locks between writers. A path has one writer at a time; its callers see to that.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data`: written beside it, fsynced, renamed over it, the directory fsynced.

    The temporary name is fixed (`.NAME.tmp`), so what a killed writer left is overwritten by the next one.
    Raises OSError (disk full, read-only, ...) with the old file untouched and no temporary file left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable (a rename is on disk only when its directory is)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's contents, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
