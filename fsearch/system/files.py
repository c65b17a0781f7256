"""Files that are either the old one or the new one, never half of each.

Deliberately not here: locks between writers. A path has one writer at a time; its callers see to that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fsearch.system import faults

_CHUNK_BYTES = 1 << 20


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data`. Raises OSError as `writing_atomic` does."""
    with writing_atomic(path) as file:
        file.write(data)


@contextmanager
def writing_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write and read that then replaces `path`.

    It is written beside it, fsynced, renamed over it, the directory fsynced. The temporary name is fixed
    (`.NAME.tmp`), so what a killed writer left is overwritten by the next one. Raises OSError (disk full,
    read-only, ...) with the old file untouched and no temporary file left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        faults.point("before a file is in its place")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    faults.point("after a file is in its place")
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
    with open(path, "rb") as file:
        return sha256_rest(file).hex()


def sha256_rest(file: BinaryIO) -> bytes:
    """SHA-256 of a file from where it stands to its end, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.digest()
