"""kill -9 of the daemon at every point where one is worth a look; then the plan ends as it does in peace."""

from __future__ import annotations

import os
import re
import signal
from itertools import count, takewhile
from pathlib import Path

import pytest

import fsearch
from fsearch.system.messages import Message
from tests.end_to_end.runs import LIMIT_S, new_state
from tests.end_to_end.stub_runs import StubRun, Table, empty_logs, interrupted, table_of
from tests.end_to_end.warm import Warm
from tests.train.processes import start_cold

AT_ONCE = 2
"""Processes that one kill of this plan's daemon can take with it: one on the device, one preparation."""


def test_killed_at_ever_later_points(stub_run: StubRun, in_peace: Table) -> None:
    """Each start dies one point later than the one before, until one reaches the end of the plan."""
    kills = 0
    while stub_run.killed_at_point(kills + 1):
        kills += 1
    assert kills >= 30
    assert table_of(stub_run) == in_peace
    tries = interrupted(stub_run.state)
    assert set(tries) == {"daemon died"} and len(tries) <= AT_ONCE * kills
    assert empty_logs(stub_run.state) == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("every", [60, pytest.param(1, marks=pytest.mark.long)])
def test_killed_once_at_every_point(
    every: int, stub_plan: Path, tmp_path: Path, warm: Warm, in_peace: Table
) -> None:
    """A run of its own for each point. With all of them, every point in the code is reached."""
    reached = set()
    for number in count(every, every):
        run = StubRun(new_state(tmp_path / str(number), None), stub_plan, warm)
        try:
            killed = run.killed_at_point(number)
            run.to_the_end()
            assert table_of(run) == in_peace, number
            tries = interrupted(run.state)
            assert set(tries) <= {"daemon died"} and len(tries) <= AT_ONCE, number
            assert empty_logs(run.state) == []
        finally:
            run.end()
        if not killed:
            break
        (name,) = re.findall("killed at the fault point: (.+)", run.output.read_text())
        reached.add(name)
    print(f"{number // every} starts, {len(reached)} kinds of points: {sorted(reached)}")
    if every == 1:
        assert reached == points_in("daemon", "store")


def test_a_preparation_killed_at_every_point(tmp_path: Path) -> None:
    """The real one: the next finds the data whole or makes them, the same to the bit, and nothing half."""

    def prepared(cache: Path, point: int) -> Message | None:
        """The result of a preparation that is killed at a point, if it gets past it."""
        arguments = {"n_symbols": 4, "n_masks": 4, "n_left": 2, "n_train": 64, "n_val": 16}
        job = {"task": "infill", "arguments": arguments, "master_seed": 0, "cache": str(cache)}
        environment = {**os.environ, "FSEARCH_FAULT_POINT": str(point)}
        worker, started = start_cold("prepare", job, tmp_path, environment=environment)
        if started.wait(LIMIT_S) == -signal.SIGKILL:
            return None
        return worker.finish()

    def files(cache: Path) -> list[str]:
        return sorted(str(path.relative_to(cache)) for path in cache.rglob("*"))

    cache = tmp_path / "killed"
    points = list(takewhile(lambda point: prepared(cache, point) is None, count(1)))
    assert points == [1, 2]
    killed, whole = prepared(cache, 0), prepared(tmp_path / "whole", 0)
    assert killed is not None and whole is not None
    assert killed["data"]["sha256"] == whole["data"]["sha256"]
    assert files(cache) == files(tmp_path / "whole")


def points_in(*rooms: str) -> set[str]:
    """The names of the fault points in the code of some rooms."""
    package = Path(fsearch.__file__).parent
    texts = [path.read_text() for room in rooms for path in (package / room).rglob("*.py")]
    return {name for text in texts for name in re.findall(r'faults\.point\("([^"]+)"\)', text)}
