"""The record cannot be written for a while: the run stands still, says so, and goes on to the same table."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from fsearch.daemon import record_path
from fsearch.store import Reader
from fsearch.store.backup import backups
from tests.end_to_end.conftest import Finished, assert_same_as
from tests.end_to_end.runs import attempts, events, new_state, run_of

STANDS_S = 7.0
"""Longer than a write waits for a lock by itself."""


def _training(reader: Reader) -> bool | None:
    """Whether an attempt of the first stage trains."""
    return any(row.spec.stage == "quick" for row in reader.unfinished()) or None


@pytest.mark.parametrize("what", ["locked", "full"])
def test_what_passes_is_waited_out(
    tmp_path: Path, kernel_library: Path, undisturbed: Finished, what: str
) -> None:
    """Somebody else's lock beyond the busy timeout, or no room for another byte, in the middle of an attempt:
    nothing is tried again, nothing is lost, and the terminal and the record say what it was."""
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        run.until(_training)
        if what == "locked":
            stranger = sqlite3.connect(record_path(state), isolation_level=None, timeout=60.0)
            stranger.execute("BEGIN IMMEDIATE")
            time.sleep(STANDS_S)
            stranger.execute("ROLLBACK")
            stranger.close()
        else:
            soft, hard = resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (4096, -1))
            time.sleep(STANDS_S)
            resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (soft, hard))
        run.to_the_end()
        told = run.output.read_text()
    sentence = {"locked": "is locked by another process", "full": "No space is left"}[what]
    assert "paused until the record can be written again" in told and sentence in told
    went_on = [event.text for event in events(state) if "the run goes on" in event.text]
    assert went_on and {"locked": "the record was locked", "full": "the disk was full"}[what] in went_on[0]
    assert [row.try_number for row in attempts(state)] == [1] * len(attempts(state))
    assert_same_as(undisturbed, state)


def test_a_stop_does_not_wait_for_the_record(
    tmp_path: Path, kernel_library: Path, undisturbed: Finished
) -> None:
    """SIGTERM while the disk is full ends the run with 130; with room the same command goes on."""
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        run.until(_training)
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (4096, -1))
        paused = "paused until the record can be written again"
        run.until(lambda reader: paused in run.output.read_text() or None)
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait() == 130, run.told()
        assert "stopped while the record could not be written" in run.output.read_text()
        run.to_the_end()
    assert_same_as(undisturbed, state)


def test_a_run_backs_up_what_was_there_before_it(
    tmp_path: Path, kernel_library: Path, undisturbed: Finished
) -> None:
    """The next daemon copies what the last one has left, before it adds to it."""
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.to_the_end()
        before = len(attempts(state))
        assert backups(record_path(state)) == []
        run.to_the_end()
    (backup,) = backups(record_path(state))
    with sqlite3.connect(f"{backup.as_uri()}?immutable=1", uri=True) as database:
        assert database.execute("SELECT count(*) FROM attempt").fetchone() == (before,)
