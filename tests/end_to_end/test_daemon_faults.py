"""What may happen to a daemon beside a kill: orphans, a second one, a clock that jumps, a plan that changes.

With trainings of a millisecond (`tests.stub`); everything else is `fsearch run` as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon import record_path
from fsearch.search.rows import AHEAD, Attempt
from fsearch.store import Reader
from tests.alive import runs, wait_until_gone
from tests.end_to_end.runs import (
    LIMIT_S,
    attempts,
    daemon_of,
    left_after,
    new_state,
    run_of,
    verdicts,
)
from tests.end_to_end.stub_runs import GONE_S, STUB_PROGRAMS, StubRun, Table, interrupted, table_of
from tests.end_to_end.warm import Warm

CLOCK = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t jump(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_JUMP_FILE"), "r");
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

extern "C" int clock_gettime(clockid_t clock, struct timespec *now) {
    static auto real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += jump();
    return answer;
}

extern "C" time_t time(time_t *there) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (there) *there = now.tv_sec;
    return now.tv_sec;
}

extern "C" int gettimeofday(struct timeval *there, void *) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *there = {now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
"""
"""Lies about the wall clock, and only about that, by as many seconds as a file says at the moment."""

DAY_S = 86_400

# Orphans


def test_an_orphan_is_found_and_ended(stub_run: StubRun, in_peace: Table) -> None:
    """A worker that outlives daemon and zygote is killed by the next daemon before anything runs."""
    worker = orphan_of(stub_run)
    stub_run.to_the_end()
    assert wait_until_gone([worker]) == []
    assert table_of(stub_run) == in_peace
    assert interrupted(stub_run.state) == ["daemon died"]


def test_a_pid_that_was_used_again_is_left_alone(stub_run: StubRun, in_peace: Table) -> None:
    """A process with the pid of a recorded worker, but another start time, is somebody else's."""
    stranger = orphan_of(stub_run)
    with contextlib.closing(sqlite3.connect(record_path(stub_run.state))) as database, database:
        changed = database.execute("UPDATE attempt SET pid_started = pid_started - 1 WHERE outcome IS NULL")
        assert changed.rowcount == 1
    stub_run.to_the_end()
    assert runs(stranger)
    os.kill(stranger, signal.SIGKILL)
    assert table_of(stub_run) == in_peace


def orphan_of(run: StubRun) -> int:
    """A worker that heeds nobody, after kill -9 of its daemon; its pid."""
    run.start(FSEARCH_STUB="stuck")
    row = run.until(trains)
    assert row.pid is not None
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    left, _ = left_after(GONE_S, lambda: [pid for pid in run.processes() if pid != row.pid])
    assert left == [] and runs(row.pid)
    return row.pid


def trains(reader: Reader) -> Attempt | None:
    """The attempt of which the daemon says that it made steps."""
    daemon = reader.daemon()
    if daemon is None or ": step " not in daemon.step:
        return None
    return next((row for row in reader.unfinished() if row.spec.role not in AHEAD), None)


# Signals


def test_a_second_sigterm_ends_what_heeds_none(stub_run: StubRun, in_peace: Table) -> None:
    """Exit code 130, nothing left, and the next start ends as in peace. A closed terminal stops nothing."""
    stub_run.start(FSEARCH_STUB="stuck")
    stub_run.until(trains)
    os.kill(stub_run.pid, signal.SIGHUP)
    os.kill(stub_run.pid, signal.SIGTERM)
    stub_run.until(is_stopping)
    os.kill(stub_run.pid, signal.SIGTERM)
    assert stub_run.wait(LIMIT_S) == 130
    assert left_after(GONE_S, stub_run.processes)[0] == []
    assert daemon_of(stub_run.state).ended
    assert interrupted(stub_run.state) == ["stopped"]
    stub_run.to_the_end()
    assert table_of(stub_run) == in_peace


def is_stopping(reader: Reader) -> bool | None:
    daemon = reader.daemon()
    return (daemon is not None and daemon.step == "stopping") or None


@pytest.mark.long
def test_one_sigterm_is_enough(stub_run: StubRun) -> None:
    """What has not ended by itself in the declared time (STOP_DEADLINE_S) is ended."""
    stub_run.start(FSEARCH_STUB="stuck")
    stub_run.until(trains)
    os.kill(stub_run.pid, signal.SIGTERM)
    assert stub_run.wait(LIMIT_S) == 130
    assert left_after(GONE_S, stub_run.processes)[0] == []
    assert interrupted(stub_run.state) == ["stopped"]


# A second daemon


def test_a_second_start_is_told_and_a_killed_holder_is_forgotten(
    stub_run: StubRun, stub_plan: Path, tmp_path: Path, in_peace: Table
) -> None:
    """Another state and another spelling of the lock's folder are no way around the first; once that is
    killed the second starts without any manual step, whoever has the pid that the lock still names."""
    stub_run.start(FSEARCH_STUB="stuck")
    stub_run.until(trains)
    (tmp_path / "same-locks").symlink_to(tmp_path / "locks")
    (tmp_path / "second").mkdir()
    state = new_state(tmp_path / "second", None)
    environment = {**STUB_PROGRAMS, "FSEARCH_LOCK_DIR": str(tmp_path / "same-locks")}
    with run_of(state, stub_plan, environment=environment) as second:
        second.start()
        assert second.wait() == 75, second.told()
        said = " ".join(second.output.read_text().split())
        assert f"pid {stub_run.pid} on {socket.gethostname()}" in said and "which runs stub" in said
        assert not (state / "fsearch.db").exists()
        os.kill(stub_run.pid, signal.SIGKILL)
        stub_run.wait()
        (lock,) = (tmp_path / "locks").glob("*.lock")
        lock.write_text(lock.read_text().replace(str(stub_run.pid), str(os.getpid())))
        second.to_the_end()
    stub_run.to_the_end()
    assert table_of(stub_run) == in_peace


def test_another_spelling_of_the_state_is_the_same_record(stub_run: StubRun, tmp_path: Path) -> None:
    """Even under another lock of the device, as on another machine, a record has one writer."""
    stub_run.start(FSEARCH_STUB="stuck")
    stub_run.until(trains)
    (tmp_path / "link").symlink_to(stub_run.state)
    environment = {**STUB_PROGRAMS, "FSEARCH_LOCK_DIR": str(tmp_path / "other-locks")}
    with run_of(tmp_path / "link", stub_run.plan, environment=environment) as second:
        second.output = tmp_path / "output-of-the-second"
        second.start()
        assert second.wait() == 75, second.output.read_text()


# The clock


def test_a_clock_that_jumps_decides_nothing(stub_plan: Path, tmp_path: Path, in_peace: Table) -> None:
    """A day forward and two back in the middle of a run: nothing is overdue, nothing is in another order."""
    (tmp_path / "clock.cpp").write_text(CLOCK)
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler is not None
    shim, jump = tmp_path / "clock.so", tmp_path / "jump"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "clock.cpp", "-ldl"], check=True)
    environment = {
        **STUB_PROGRAMS,
        "LD_PRELOAD": str(shim),
        "CLOCK_JUMP_FILE": str(jump),
        "FSEARCH_STUB": "0.2",
    }
    with run_of(new_state(tmp_path, None), stub_plan, environment=environment) as run:
        run.start()
        run.until(lambda reader: running(reader, "quick"))
        jump.write_text(str(DAY_S))
        run.until(lambda reader: running(reader, "medium"))
        jump.write_text(str(-DAY_S))
        run.to_the_end()
        assert interrupted(run.state) == []
        assert table_of(run) == in_peace
    told = [datetime.fromisoformat(row.started_at) for row in attempts(run.state)]
    assert told != sorted(told) and max(told) - min(told) > timedelta(days=1.9)


def running(reader: Reader, stage: str) -> Attempt | None:
    return next((row for row in reader.unfinished() if row.spec.stage == stage), None)


# The plan


def test_an_edited_plan_reuses_what_it_did_not_change(stub_run: StubRun, warm: Warm, tmp_path: Path) -> None:
    """Variants reordered, one removed, one added: only the added one is trained. Another learning rate:
    everything is, and no comparison mixes the two. Each time the result is that of a run from the start."""
    text = stub_run.plan.read_text()
    weak = "  - {name: weak, gate: scalar, alpha: -8}\n"
    others = text.partition("variants:\n")[2].partition("tasks:")[0].replace(weak, "")
    mild = "  - {name: mild, gate: scalar, alpha: -1}\n"
    reordered = text.replace(weak, "").replace(others, "".join(reversed([*others.splitlines(True), mild])))
    stub_run.plan = tmp_path / "edited.yaml"
    stub_run.command[stub_run.command.index("run") + 1] = str(stub_run.plan)
    new: list[set[str]] = []
    for number, edited in enumerate([text, reordered, reordered.replace("lr: 1.0e-2", "lr: 2.0e-2")]):
        stub_run.plan.write_text(edited)
        before = attempts(stub_run.state) if number else []
        stub_run.to_the_end()
        after = attempts(stub_run.state)
        assert after[: len(before)] == before
        new.append({row.spec.variant for row in after[len(before) :] if row.spec.role not in AHEAD})
        fresh = StubRun(new_state(tmp_path / str(number), None), stub_run.plan, warm)
        fresh.to_the_end()
        asked = trained(fresh)
        ids = {line["id"] for line in asked}  # what is asked no more is kept, and exported last
        assert [line for line in trained(stub_run) if line["id"] in ids] == asked
        assert verdicts(stub_run.state, stub_run.plan) == verdicts(fresh.state, fresh.plan)
    assert new == [{"no_fs", "raw", "weak", "scalar_l2"}, {"mild"}, {"no_fs", "raw", "mild", "scalar_l2"}]


def trained(run: StubRun) -> list[dict[str, Any]]:
    """What is exported of the trainings of a plan, whichever plan asked for them first."""
    lines = [line for line in run.exported() if line["role"] not in AHEAD]
    return [{key: value for key, value in line.items() if not key.startswith("plan")} for line in lines]
