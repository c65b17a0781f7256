"""Two `fsearch run` at once: the second says who holds the machine and exits 75."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsearch.daemon.lock import DeviceLock
from tests.end_to_end.runs import attempts, new_state, run_of


def test_the_second_exits_75_and_names_the_holder(
    short_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one machine, with another state folder: pid, host, user and plan of the first are named, nothing is
    begun; once the first has gone, the lock is free."""
    state = new_state(tmp_path, None)
    monkeypatch.setenv("FSEARCH_LOCK_DIR", str(state.parent / "locks"))
    lock = DeviceLock("cpu", {"pid": os.getpid(), "host": "box", "user": "ada", "plan": "the first"})
    with run_of(state, short_plan) as second:
        second.start()
        assert second.wait() == 75, second.told()
        said = " ".join(second.output.read_text().split())
    for part in (f"pid {os.getpid()}", "box", "ada", "the first"):
        assert part in said
    assert not (state / "fsearch.db").exists()
    lock.release()


def test_two_daemons_on_one_record(short_plan: Path, tmp_path: Path, kernel_library: Path) -> None:
    """With separate locks (two machines, one folder) the record itself refuses the second."""
    state = new_state(tmp_path, kernel_library)
    other_locks = tmp_path / "other-locks"
    other_locks.mkdir()
    with run_of(state, short_plan) as first:
        first.start()
        first.until(lambda reader: next(iter(reader.unfinished()), None))
        with run_of(state, short_plan, environment={"FSEARCH_LOCK_DIR": str(other_locks)}) as second:
            second.output = tmp_path / "output-of-the-second"
            second.start()
            assert second.wait() == 75, second.output.read_text()
            first.to_the_end()
    assert {row.outcome for row in attempts(state)} == {"completed", "noop"}
