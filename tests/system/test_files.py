"""Atomic files: the old one or the new one, never half of each."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsearch.system import files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """After a write the file holds exactly the new bytes and nothing lies beside it."""
    path = tmp_path / "state"
    files.write_atomic(path, b"old" * 1000)
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["state"]


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk refuses, the old contents stay, nothing temporary is left, and the caller is told."""
    path = tmp_path / "state"
    files.write_atomic(path, b"old")

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """kill -9 in the middle of a loop of writes: what lies there is one of the versions, complete."""
    path = tmp_path / "state"
    program = """
import sys
from pathlib import Path
from fsearch.system.files import write_atomic
n = 0
while True:
    write_atomic(Path(sys.argv[1]), bytes([n % 256]) * 300_000)
    n += 1
"""
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    data = path.read_bytes()
    assert len(data) == 300_000
    assert len(set(data)) == 1
    files.write_atomic(path, b"next")
    assert os.listdir(tmp_path) == ["state"]  # what the killed writer may have left is gone too


def test_sha256_of_a_file(tmp_path: Path) -> None:
    """The digest of a file larger than one piece equals that of its bytes."""
    data = bytes(range(256)) * 5000
    (tmp_path / "data").write_bytes(data)
    assert files.sha256_file(tmp_path / "data") == hashlib.sha256(data).hexdigest()
