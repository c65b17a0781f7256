"""A small file system of its own, so that a disk can really be full."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MNT_DETACH = 2


@contextmanager
def mounted_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs at `folder`, of "64k" for example. Skips the test of a user who may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        pytest.skip("a full disk takes the right to mount a file system, which this user does not have")
    try:
        yield folder
    finally:
        libc.umount2(str(folder).encode(), _MNT_DETACH)
