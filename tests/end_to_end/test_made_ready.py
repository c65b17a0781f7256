"""The worker of the next attempt, which gets ready while one trains: it is no attempt until it begins."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fsearch.search.rows import AHEAD, Attempt
from tests.alive import runs
from tests.end_to_end.runs import (
    LIMIT_S,
    POLL_S,
    Run,
    attempts,
    descendants,
    left_after,
    new_state,
)
from tests.end_to_end.stub_runs import GONE_S, StubRun, Table, table_of
from tests.end_to_end.warm import Warm


def workers(run: Run) -> list[int]:
    """What the process that forks has forked, and that lives."""
    zygote = run.zygote()
    return [pid for pid in descendants(zygote) if runs(pid)] if zygote else []


def until(run: Run, found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not found():
        assert run.process is not None and run.process.poll() is None, run.told()
        assert time.monotonic() < deadline, run.told()
        time.sleep(POLL_S)


def trained(rows: list[Attempt]) -> list[Attempt]:
    return [row for row in rows if row.spec.role not in AHEAD and row.pid is not None]


def is_screened(row: Attempt) -> bool:
    return row.spec.role == "screen" and row.spec.variant == "weak"


def with_one_ready(run: StubRun) -> tuple[int, int]:
    """A run in which an attempt trains and another process is ready: the pids of both."""
    run.start(FSEARCH_STUB="0.6")
    until(run, lambda: len(workers(run)) == 2)
    running = [row.pid for row in trained(attempts(run.state)) if row.outcome is None]
    pids = workers(run)
    assert len(pids) == 2 and len(running) == 1 and running[0] in pids, run.told()
    return running[0], next(pid for pid in pids if pid != running[0])


def test_it_becomes_the_next_attempt(stub_run: StubRun, in_peace: Table) -> None:
    """While it gets ready no row has its pid; then the next one has it, and the table is that of any run."""
    running, ready = with_one_ready(stub_run)
    stub_run.until(lambda reader: any(row.pid == ready for row in reader.attempts()) or None)
    rows = trained(attempts(stub_run.state))
    assert [row.pid for row in rows][-2:] == [running, ready]
    stub_run.to_the_end()
    table = table_of(stub_run)
    assert (table.numbers, table.verdicts, table.files) == (
        in_peace.numbers,
        in_peace.verdicts,
        in_peace.files,
    )
    gaps = [row.idle_s for row in trained(attempts(stub_run.state))]
    assert gaps[0] is None and all(gap is not None and gap > 0 for gap in gaps[1:])


def test_killed_before_it_began_it_is_not_missed(stub_run: StubRun, in_peace: Table) -> None:
    """kill -9 of it: nothing is recorded, the next attempt is forked as ever, and numbers are the same."""
    _, ready = with_one_ready(stub_run)
    os.kill(ready, signal.SIGKILL)
    stub_run.to_the_end()
    assert ready not in [row.pid for row in attempts(stub_run.state)]
    assert table_of(stub_run) == in_peace


@pytest.mark.parametrize("whom", ["the daemon", "the zygote"])
def test_it_dies_with_those_who_made_it(stub_run: StubRun, in_peace: Table, whom: str) -> None:
    """kill -9 of either: within two seconds it is gone too, and the plan is done all the same."""
    _, ready = with_one_ready(stub_run)
    victim = stub_run.pid if whom == "the daemon" else stub_run.zygote()
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    left, _ = left_after(GONE_S, lambda: [pid for pid in stub_run.processes() if pid == ready])
    assert left == []
    if whom == "the daemon":
        stub_run.wait()
    stub_run.to_the_end()
    table = table_of(stub_run)
    assert (table.numbers, table.verdicts) == (in_peace.numbers, in_peace.verdicts)


def test_a_wrong_guess_leaves_nothing(tmp_path: Path, stub_plan: Path, warm: Warm) -> None:
    """The only variant of a search is pruned: no confirmation follows, and none has a row."""
    plan = tmp_path / "pruned.yaml"
    lines = stub_plan.read_text().splitlines(keepends=True)
    only = [line for line in lines if "name: raw" not in line and "scalar_l2" not in line]
    text = "".join([*only, only[-1].replace("n_train: 16", "n_train: 24")])
    plan.write_text(text.replace("prune_below: 0.1", "prune_below: 0.45"))
    run = StubRun(new_state(tmp_path, None), plan, warm)
    try:
        run.start(FSEARCH_STUB="0.6")
        screened = run.until(lambda reader: next(filter(is_screened, reader.attempts()), None))
        until(run, lambda: len(workers(run)) == 2)
        ready = next(pid for pid in workers(run) if pid != screened.pid)
        until(run, lambda: not runs(ready))
        run.to_the_end()
        rows = attempts(run.state)
    finally:
        run.end()
    assert ready not in [row.pid for row in rows]
    assert {row.spec.role for row in trained(rows)} == {"probe", "screen"}


def test_a_stop_ends_it_at_once(stub_run: StubRun) -> None:
    """SIGTERM: it is ended while the attempt that trains comes to its end, and it has no row."""
    _, ready = with_one_ready(stub_run)
    os.kill(stub_run.pid, signal.SIGTERM)
    assert stub_run.wait() == 130, stub_run.told()
    assert ready not in [row.pid for row in attempts(stub_run.state)]
    left, _ = left_after(GONE_S, stub_run.processes)
    assert left == []
