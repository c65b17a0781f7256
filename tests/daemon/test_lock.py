"""One daemon a device: the second is told who has it, and a dead holder leaves nothing to clean."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsearch.daemon.lock import DeviceLock, LockHeld

ROOT = Path(__file__).parents[2]
HOLDER = {"pid": 4711, "host": "box", "user": "ada", "plan": "protein and punctuation"}
HOLD = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from fsearch.daemon.lock import DeviceLock, LockHeld
try:
    lock = DeviceLock("cpu", {HOLDER} | {{"pid": os.getpid()}})
except LockHeld as held:
    print("held:", held, flush=True)
else:
    print("taken", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lock folder that everyone may use, as /tmp is."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o1777)
    monkeypatch.setenv("FSEARCH_LOCK_DIR", str(path))
    yield path
    shutil.rmtree(path)


@contextlib.contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that tries to take the lock and keeps it; and what it says of that."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_the_second_is_told_who_has_it(folder: Path) -> None:
    """Pid, host, user and plan of the holder are in the sentence."""
    with holder() as (first, said):
        assert said == "taken"
        with pytest.raises(LockHeld) as held:
            DeviceLock("cpu", HOLDER)
        assert f"pid {first.pid} on box" in str(held.value)
        assert "user ada" in str(held.value) and "protein and punctuation" in str(held.value)
        DeviceLock("another-device", HOLDER).release()


def test_another_spelling_of_the_folder_is_the_same_lock(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a symbolic link nor a detour leads around it."""
    (tmp_path / "link").symlink_to(folder)
    with holder():
        for spelling in (tmp_path / "link", folder / ".." / folder.name):
            monkeypatch.setenv("FSEARCH_LOCK_DIR", str(spelling))
            with pytest.raises(LockHeld):
                DeviceLock("cpu", HOLDER)


def test_a_killed_holder_leaves_nothing_to_clean(folder: Path) -> None:
    """After kill -9 the lock is free at once, its file stays and names the new holder."""
    with holder() as (first, _):
        first.kill()
        first.wait()
        lock = DeviceLock("cpu", HOLDER)
    with holder() as (_, said):
        assert said.startswith("held: ") and "pid 4711" in said
    lock.release()
    with holder() as (_, said):
        assert said == "taken"


def test_a_holder_that_has_not_said_who_it_is_holds_all_the_same(folder: Path) -> None:
    """In the moment between taking the lock and writing the name, the second still gets a sentence."""
    with holder():
        (folder / "fsearch-cpu.lock").write_text("")
        with pytest.raises(LockHeld, match="has not said who it is"):
            DeviceLock("cpu", HOLDER)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_two_users_exclude_each_other(folder: Path) -> None:
    """Whoever made the file, and whatever it allows: the lock holds, and is free afterwards."""
    with another_user() as said:
        assert said == "taken"
        with pytest.raises(LockHeld):
            DeviceLock("cpu", HOLDER)
    lock = DeviceLock("cpu", HOLDER)
    with another_user() as said:
        assert said.startswith("held: ") and "pid 4711" in said
    lock.release()
    file = folder / "fsearch-cpu.lock"
    os.chown(file, 0, 0)
    file.chmod(0o644)  # the other user may only read it
    with another_user() as said:
        assert said == "taken"
        with pytest.raises(LockHeld):
            DeviceLock("cpu", HOLDER)


@contextlib.contextmanager
def another_user() -> Iterator[str]:
    """A process of nobody's that tries to take the lock and keeps it; what it says of that.

    Only forked: another user may perhaps not run this Python.
    """
    nobody = 65534
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)
            try:
                DeviceLock("cpu", HOLDER)
                said = "taken"
            except LockHeld as held:
                said = f"held: {held}"
            os.write(write, said.encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    try:
        yield os.read(read, 4096).decode()
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
