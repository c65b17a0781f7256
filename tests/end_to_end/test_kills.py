"""kill -9 at any moment: nothing is left running, nothing is lost or done twice, the numbers are the same."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from fsearch.search.rows import Attempt
from fsearch.store import Reader
from fsearch.system.process import start_time
from tests.alive import runs
from tests.end_to_end.conftest import Finished, assert_same_as
from tests.end_to_end.runs import (
    Run,
    attempts,
    closing,
    daemon_of,
    events,
    kill_stopped,
    left_after,
    new_state,
    run_of,
)

Victim = Literal["daemon", "zygote", "worker"]

VICTIMS: tuple[Victim, ...] = ("daemon", "zygote", "worker")
MOMENTS = (
    ("prepare", "", 0),
    ("probe", "raw", 0),
    ("quick", "no_fs", 0),
    ("quick", "raw", 0),
    ("medium", "raw", 2),
)
"""What is running when the victim is killed: stage, variant, seed."""

GONE_S = 2.0

PATTERNS = {
    "daemon": {"daemon died"},
    "zygote": {"zygote died", "daemon died"},
    "worker": {"killed from outside"},
}

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def nobody_reaps() -> Iterator[None]:
    """As in a container whose first process reaps no orphans: they stay zombies (of this process)."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.usefixtures("nobody_reaps")
def test_killed_at_five_moments(
    victim: Victim, undisturbed: Finished, tmp_path: Path, kernel_library: Path
) -> None:
    """One victim is killed in five stages of the plan, one after the other; the export is as in peace."""
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        for moment in moments_of(undisturbed):
            kill_while(run, victim, moment)
        run.to_the_end()
    assert_same_as(undisturbed, state)
    tries = attempts(state)
    interrupted = [row for row in tries if row not in closing(tries)]
    assert len(interrupted) >= len(MOMENTS) if victim == "worker" else interrupted
    assert {row.outcome for row in interrupted} == {"interrupted"}
    assert {row.pattern for row in interrupted} <= PATTERNS[victim]
    if victim == "zygote":
        replaced = [event for event in events(state) if "a new one is started" in event.text]
        assert len(replaced) == len(MOMENTS)


@pytest.mark.usefixtures("nobody_reaps")
def test_a_zygote_killed_while_it_loads_is_replaced(
    undisturbed: Finished, tmp_path: Path, kernel_library: Path
) -> None:
    """Also before the first attempt a dead zygote does not end the daemon."""
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        zygote = run.until(lambda reader: run.zygote())
        run.until(lambda reader: reader.daemon())  # the daemon has opened its record and waits
        os.kill(zygote, signal.SIGKILL)
        run.to_the_end()
    assert_same_as(undisturbed, state)


@pytest.mark.long
@pytest.mark.parametrize("moment", range(len(MOMENTS)))
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_once(
    victim: Victim, moment: int, undisturbed: Finished, tmp_path: Path, kernel_library: Path
) -> None:
    """One victim, one moment."""
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        run.start()
        kill_while(run, victim, moments_of(undisturbed)[moment])
        run.to_the_end()
    assert_same_as(undisturbed, state)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(
    seed: int, undisturbed: Finished, tmp_path: Path, kernel_library: Path
) -> None:
    """Twenty kills of whoever is there, at times that nobody chose; then the run ends as in peace."""
    rng = random.Random(seed)
    state = new_state(tmp_path, kernel_library)
    with run_of(state, undisturbed.plan) as run:
        for _ in range(20):
            if run.process is None or run.process.poll() is not None:
                run.start()
            time.sleep(rng.uniform(0.0, 6.0))
            alive = run.processes()
            if alive:
                victim = rng.choice(alive)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                if victim == run.pid:
                    run.wait()  # it may take a moment to die, and must not be taken for alive
            if run.process is not None and run.process.poll() not in (None, 0):
                left, _ = left_after(GONE_S, run.processes)
                assert not left, run.told()
        run.to_the_end()
    assert_same_as(undisturbed, state)


def moments_of(undisturbed: Finished) -> list[Callable[[Attempt], bool]]:
    """Whether an attempt is the wanted one or a later one of the plan: a fast machine may miss one."""
    order = [row.spec.id for row in attempts(undisturbed.state)]
    names = [(row.spec.stage, row.spec.variant, row.spec.seed) for row in attempts(undisturbed.state)]

    def from_the(first: int) -> Callable[[Attempt], bool]:
        return lambda row: order.index(row.spec.id) >= first

    return [from_the(names.index(moment)) for moment in MOMENTS]


def kill_while(run: Run, victim: Victim, moment: Callable[[Attempt], bool]) -> None:
    """kill -9 of the victim while such an attempt runs; see that within two seconds nothing of it is left."""
    while True:
        row = run.until(lambda reader: running(reader, moment))
        pid = {"daemon": run.pid, "zygote": run.zygote(), "worker": row.pid}[victim]
        if pid is None or (victim == "worker" and start_time(pid) != row.pid_started):
            continue  # it has just ended
        try:
            below = kill_stopped(pid)
        except ProcessLookupError:
            continue
        break
    if victim == "daemon":
        left, took_s = left_after(GONE_S, run.processes)
        assert run.wait() == -signal.SIGKILL
    else:
        left, took_s = left_after(GONE_S, lambda: [other for other in [pid, *below] if runs(other)])
    assert not left, run.told()
    print(f"{victim} killed in {row.spec.stage} {row.spec.variant}: all gone after {took_s * 1000:.0f} ms")
    if victim == "daemon":
        assert daemon_of(run.state).ended is None
        run.start()
    else:
        assert run.process is not None and run.process.poll() is None, run.told()


def running(reader: Reader, moment: Callable[[Attempt], bool]) -> Attempt | None:
    return next((row for row in reader.unfinished() if moment(row)), None)
