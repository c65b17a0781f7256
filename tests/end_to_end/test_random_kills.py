"""kill -9 of anything that runs, again and again at moments that nobody chose; the plan ends as in peace.

With trainings of a millisecond (`tests.stub`). With real ones: `test_kills`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.end_to_end.runs import left_after, new_state
from tests.end_to_end.stub_runs import GONE_S, StubRun, Table, interrupted, table_of
from tests.end_to_end.warm import Warm

LONGEST = 1.3
"""Between two kills, in runs of the plan in peace: seconds that a slow machine needs to start would leave no
run any time to get on."""

DAEMON_SHARE = 0.7

FOREVER = 10_000
"""Kills after which a run that is still not done would never be."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [15, pytest.param(250, marks=pytest.mark.long)])
def test_killed_at_random(kills: int, stub_plan: Path, tmp_path: Path, warm: Warm, in_peace: Table) -> None:
    """So many kills over as many runs as that takes: of the daemon mostly, else of whatever it has started.

    Within two seconds nothing is left of what was killed, and every run ends with the table of one in peace.
    """
    chance = random.Random(kills)
    killed: Counter[str] = Counter()
    patterns: Counter[str] = Counter()
    runs = 0
    while killed.total() < kills:
        run = StubRun(new_state(tmp_path / str(runs), None), stub_plan, warm)
        runs += 1
        before = killed.total()
        try:
            while run.process is None or run.process.poll() != 0:
                if run.process is None or run.process.poll() is not None:
                    run.start()
                time.sleep(chance.uniform(0.0, LONGEST) * in_peace.seconds)
                killed.update(kill_somebody(run, chance))
                assert run.process.poll() in (None, 0, -signal.SIGKILL), run.told()
            assert table_of(run) == in_peace
        finally:
            run.end()
        tries = interrupted(run.state)
        assert len(tries) <= 2 * (killed.total() - before)
        patterns.update(tries)
    print(f"{runs} runs, killed: {dict(killed)}; tries that did not close: {dict(patterns)}")
    assert set(patterns) <= {"daemon died", "zygote died", "killed from outside"}


def test_killed_in_a_loop(stub_run: StubRun, in_peace: Table) -> None:
    """Killed and started until it is done, again and again before it could be: it terminates."""
    chance = random.Random(0)
    kills = 0
    while kills < FOREVER:
        stub_run.start()
        assert stub_run.process is not None
        deadline = time.monotonic() + chance.uniform(0.1, LONGEST) * in_peace.seconds
        while stub_run.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if stub_run.process.poll() == 0:
            break
        os.kill(stub_run.pid, signal.SIGKILL)
        stub_run.wait()
        kills += 1
    assert table_of(stub_run) == in_peace


def kill_somebody(run: StubRun, chance: random.Random) -> list[str]:
    """kill -9 of one process of a run, if it still runs; who it was."""
    assert run.process is not None
    others = run.processes()
    try:
        if others and chance.random() > DAEMON_SHARE:
            os.kill(chance.choice(others), signal.SIGKILL)
            return ["something below the daemon"]
        if run.process.poll() is not None:
            return []
        os.kill(run.pid, signal.SIGKILL)
    except ProcessLookupError:
        return []
    run.wait()
    assert left_after(GONE_S, run.processes)[0] == [], run.told()
    return ["the daemon"]
