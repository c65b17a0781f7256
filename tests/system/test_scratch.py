"""Scratch folders and turns between processes, when a process is killed too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from fsearch.system.scratch import alone, scratch_folder

HOLDS = """
import sys, time
from pathlib import Path
from fsearch.system.scratch import alone, scratch_folder
parent = Path(sys.argv[1])
with alone(parent / "lock"), scratch_folder(parent) as folder:
    (folder / "rows").write_text("rows")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_ends_with_its_process(tmp_path: Path) -> None:
    """It is there while it is used, whoever else makes one; what a killed process left goes with the next."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with scratch_folder(tmp_path) as ours:
            assert ours != theirs and (theirs / "rows").exists()
        assert not ours.exists()
        other.kill()
        other.wait()
    assert theirs.exists()
    with scratch_folder(tmp_path):
        assert not theirs.exists()


def test_a_turn_is_waited_for(tmp_path: Path) -> None:
    """`waiting` is called as long as another process holds the lock, which its death gives up."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        called = []

        def waiting() -> None:
            called.append(time.monotonic())
            if len(called) == 2:
                other.kill()

        with alone(tmp_path / "lock", waiting):
            assert len(called) >= 2
    with alone(tmp_path / "lock", waiting=lambda: called.clear()):
        assert called, "a lock that is free is not waited for"
