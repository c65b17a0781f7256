"""A disk that is full: nothing begins, it says so, and it goes on by itself once there is room."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fsearch.daemon.jobs import remove_stale_checkpoints
from fsearch.search.board import Record
from fsearch.store import DaemonRecord, Reader
from fsearch.system import disk
from tests.end_to_end.conftest import Finished, assert_same_as
from tests.end_to_end.runs import (
    attempts,
    events,
    new_state,
    numbers,
    run_of,
)
from tests.mounted_disk import mounted_disk
from tests.ui.commands import fsearch

_MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 MiB."""
    with mounted_disk(tmp_path / "disk", "192m") as folder:
        yield folder


def waits_for_room(reader: Reader) -> DaemonRecord | None:
    daemon = reader.daemon()
    return daemon if daemon is not None and "waiting for room" in daemon.step else None


def test_a_run_waits_for_room(small_disk: Path, undisturbed: Finished, kernel_library: Path) -> None:
    """What runs is finished, nothing more begins, `status` says why; with room it goes on, as in peace."""
    state = new_state(small_disk, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        run.until(
            lambda reader: next((row for row in reader.unfinished() if row.spec.stage == "quick"), None)
        )
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.free_bytes(small_disk) - 20 * _MIB)
        daemon = run.until(waits_for_room)
        assert f"on the disk of {state}: " in daemon.step and "64 are wanted" in daemon.step
        shown = " ".join(fsearch("status", "--once", "--state", state, cwd=small_disk).stdout.split())
        assert "waiting for room on the disk" in shown and "goes on by itself" in shown
        before = len(attempts(state))
        ballast.unlink()
        run.to_the_end()
    assert len(attempts(state)) > before
    assert {row.try_number for row in attempts(state)} == {1}
    assert_same_as(undisturbed, state)
    told = [event.text for event in events(state) if "room" in event.text]
    assert [text.partition(":")[0] for text in told] == [
        f"waiting for room on the disk of {state}",
        f"there is room again on the disk of {state}",
    ]
    output = " ".join(run.output.read_text().split())
    assert "warning: waiting for room" in output and "info: there is room again" in output


def test_a_start_without_room_waits_too(
    small_disk: Path, undisturbed: Finished, kernel_library: Path
) -> None:
    """Before the first attempt; a stop meanwhile ends it at once, and the next start finishes."""
    state = new_state(small_disk, kernel_library)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.free_bytes(small_disk) - 20 * _MIB)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        run.until(waits_for_room)
        os.kill(run.pid, 15)
        assert run.wait() == 130
        assert attempts(state) == []
        ballast.unlink()
        run.to_the_end()
    assert numbers(state) == numbers(undisturbed.state)


def test_room_is_that_of_this_user(tmp_path: Path) -> None:
    """Asked of a folder that is not made yet; a shortage has its sentence, and a disk with room has none."""
    there = os.statvfs(tmp_path)
    assert disk.free_bytes(tmp_path / "a" / "b") == pytest.approx(
        there.f_bavail * there.f_frsize, abs=512 * _MIB
    )
    if disk.free_bytes(tmp_path) > disk.KEPT_BYTES:
        assert disk.shortage(tmp_path) == ""
        disk.require_room(tmp_path, 0)
    with pytest.raises(OSError, match=r"No space left on device: 1048576000000\.0 MiB are to be") as caught:
        disk.require_room(tmp_path, 10**6 * 2**40)
    assert caught.value.errno == errno.ENOSPC


def test_what_is_left_of_checkpoints_goes(undisturbed: Finished, tmp_path: Path) -> None:
    """Of attempts that have closed, that no record has, that ran under another environment, or that were
    never finished; what an open attempt left here stays."""
    rows = attempts(undisturbed.state)
    closed, other = rows[-1], rows[-2]
    running = replace(other, outcome=None, outcome_class=None)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    names = [
        *(f"{closed.spec.id}.pt", f"{closed.spec.id}.pt.previous", "0123456789abcdef.pt"),
        *(f"{other.spec.id}.pt", f"{other.spec.id}.pt.previous", f".{other.spec.id}.pt.tmp"),
    ]
    for name in names:
        (folder / name).write_bytes(b"state")
    environment = other.fingerprints["environment"]
    remove_stale_checkpoints(tmp_path, Record([closed, running]), environment)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[3:5])
    remove_stale_checkpoints(tmp_path, Record([closed, running]), "another")
    assert list(folder.iterdir()) == []
