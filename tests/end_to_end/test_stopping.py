"""Stopping a run: SIGTERM, a second one, a closed terminal; and a worker that makes no progress."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsearch.search.rows import AHEAD, Attempt
from fsearch.store import Reader
from tests.alive import runs
from tests.end_to_end.runs import (
    Run,
    assert_whole,
    attempts,
    closing,
    daemon_of,
    events,
    left_after,
    new_state,
    numbers,
    run_of,
    verdicts,
)

PLAN = """
name: a long attempt
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages:
  - {name: quick, steps: 800}
  - {name: medium, steps: 2, seeds: 3}
screen: {prune_below: 0.4}
variants: [{name: weak, gate: scalar, alpha: -8}]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 512, n_val: 64, batch: 16}
"""

STOP_LIMIT_S = 25.0
"""The daemon kills an attempt after 30 s without a checkpoint: less means that it ended by itself."""

HANG_AFTER_S = 3.0

IMPATIENT = f"""
import sys
from fsearch.daemon import child
from fsearch.ui.cli import main
child.PROGRESS_DEADLINE_S |= {{"train": {HANG_AFTER_S}, "evaluate": {HANG_AFTER_S}}}
sys.exit(main())
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path, plan: Path) -> Path:
    """The state of a run that nothing stopped."""
    state = new_state(tmp_path_factory.mktemp("peace"), kernel_library)
    with run_of(state, plan) as run:
        run.to_the_end()
    return state


@pytest.fixture
def run(tmp_path: Path, kernel_library: Path, plan: Path) -> Iterator[Run]:
    with run_of(new_state(tmp_path, kernel_library), plan) as run:
        yield run


def test_a_stopped_run_goes_on_from_its_checkpoint(run: Run, in_peace: Path) -> None:
    """SIGTERM in the middle of an attempt: exit code 130, a checkpoint; started again, the same numbers come
    out. A closed terminal stops nothing."""
    run.start()
    stopped = run.until(lambda reader: in_the_middle_of(reader, "weak"))
    os.kill(run.pid, signal.SIGHUP)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(STOP_LIMIT_S) == 130
    assert left_after(2.0, run.processes)[0] == []
    assert daemon_of(run.state).ended

    last = attempts(run.state)[-1]
    assert (last.spec.id, last.outcome, last.pattern) == (stopped.spec.id, "interrupted", "stopped")
    assert 0 < last.steps_done < last.spec.steps
    assert (run.state / "checkpoints" / f"{stopped.spec.id}.pt").is_file()

    run.to_the_end()
    assert [row.outcome for row in attempts(run.state) if row.spec.id == stopped.spec.id] == [
        "interrupted",
        "completed",
    ]
    went_on = [event.text for event in events(run.state) if "went on from its checkpoint" in event.text]
    assert len(went_on) == 1 and went_on[0].endswith(f"at step {last.steps_done}")
    assert_whole(run.state)
    assert numbers(run.state) == numbers(in_peace)
    assert verdicts(run.state, run.plan) == verdicts(in_peace, run.plan)


def test_a_second_signal_does_not_wait(run: Run) -> None:
    """A worker that does not heed the first SIGTERM is ended by the second, and the record says so."""
    run.start()
    row = run.until(lambda reader: in_the_middle_of(reader, "no_fs"))
    assert row.pid is not None
    os.kill(row.pid, signal.SIGSTOP)
    os.kill(run.pid, signal.SIGTERM)
    run.until(lambda reader: step_of(reader) == "stopping" or None)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(STOP_LIMIT_S) == 130
    assert left_after(2.0, run.processes)[0] == []
    last = attempts(run.state)[-1]
    assert (last.spec.id, last.outcome, last.pattern) == (row.spec.id, "interrupted", "stopped")


def test_a_worker_without_progress_is_ended_and_tried_once_more(run: Run, in_peace: Path) -> None:
    """A hang is an outcome with its phase, and the attempt is done again."""
    run.command[: run.command.index("run")] = [sys.executable, "-c", IMPATIENT]
    run.start()
    row = run.until(lambda reader: in_the_middle_of(reader, "no_fs"))
    assert row.pid is not None
    os.kill(row.pid, signal.SIGSTOP)
    run.to_the_end()
    tries = [row for row in attempts(run.state) if row.outcome == "hang"]
    assert [(hung.spec.id, hung.outcome_class) for hung in tries] == [(row.spec.id, "unknown")], run.told()
    # The curve is measured between two steps: it may be there that the signal meets it.
    assert re.match(r"no progress for \d+ s in phase (train|evaluate); it was ended$", tries[0].reason)
    assert_whole(run.state)
    assert numbers(run.state) == numbers(in_peace)


@pytest.mark.parametrize("victim", ["daemon", "zygote"])
def test_a_worker_that_is_stuck_dies_with_those_above_it(victim: str, run: Run) -> None:
    """The system ends it: it need not notice by itself that nobody listens any more."""
    run.start()
    row = run.until(lambda reader: in_the_middle_of(reader, "no_fs"))
    worker, above = row.pid, run.pid if victim == "daemon" else run.zygote()
    assert worker is not None and above is not None
    os.kill(worker, signal.SIGSTOP)
    os.kill(above, signal.SIGKILL)
    assert left_after(2.0, lambda: [worker] if runs(worker) else [])[0] == []


def test_ctrl_c_before_the_first_attempt(run: Run) -> None:
    """A run that is stopped while torch loads ends with 130 and has done nothing."""
    run.start()
    run.until(lambda reader: reader.daemon())
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(STOP_LIMIT_S) == 130
    assert left_after(2.0, run.processes)[0] == []
    assert [row for row in closing(attempts(run.state)) if row.spec.role not in AHEAD] == []


def in_the_middle_of(reader: Reader, variant: str) -> Attempt | None:
    """The attempt of a variant that trains and has made steps."""
    if f" {variant} " not in step_of(reader) or ": step " not in step_of(reader):
        return None
    return next((row for row in reader.unfinished() if row.spec.variant == variant), None)


def step_of(reader: Reader) -> str:
    """What the daemon says that it is doing."""
    daemon = reader.daemon()
    return daemon.step if daemon else ""
