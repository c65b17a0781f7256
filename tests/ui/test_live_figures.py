"""What a status says of the attempt that trains, held to the record, to the kernel and to the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fsearch.store import Reader
from fsearch.system import process
from fsearch.ui.keys import names
from fsearch.ui.layout import sparkline
from fsearch.ui.looking import Looking, pressed
from fsearch.ui.moment import Moment, Watch, moment_of
from fsearch.ui.state import looking
from fsearch.ui.words import energy, memory
from tests.end_to_end.conftest import ONE_STAGE
from tests.end_to_end.runs import new_state, run_of
from tests.ui.record import fill, the_plan

STEPS = 2000


def test_a_variant_against_the_baselines_curve(tmp_path: Path, kernel_library: Path) -> None:
    """While it trains: both scores at one step are those of their curves in the record afterwards."""
    state = new_state(tmp_path, kernel_library)
    # Long enough for several signs of life of the daemon, one a second, on a fast machine.
    (tmp_path / "plan.yaml").write_text(ONE_STAGE.replace("steps: 400", f"steps: {STEPS}"))

    def compared(reader: Reader) -> Moment | None:
        found = moment_of(reader, state, datetime.now(UTC))
        return found if found.training and found.training.d_acc is not None else None

    with run_of(state, tmp_path / "plan.yaml") as run:
        run.start()
        moment = run.until(compared)
        (row,) = [row for row in moment.running if row.spec.variant == "raw"]
        run.until(lambda reader: (one := reader.attempt(row.spec.id, 1)) and one.outcome)
    training, machine = moment.training, moment.machine
    assert training is not None and machine is not None and machine.usage is not None
    assert training.tokens_per_s is not None and training.tokens_per_s > 0
    assert machine.usage.cpus > 0.0 and machine.usage.memory_mib > 1.0
    assert 1 < training.step <= training.steps == STEPS and any(training.losses)
    place = (training.evaluated_step, "all")
    with looking(state) as reader:
        curves = {
            one.spec.variant: {
                (point.step, point.half): point.score for point in reader.evaluations(one.spec.id, 1)
            }
            for one in reader.attempts()
            if one.spec.role == "confirm" and one.spec.seed == row.spec.seed
        }
    assert (training.score, training.baseline_score) == (curves["raw"][place], curves["no_fs"][place])
    assert training.d_acc == curves["raw"][place] - curves["no_fs"][place]


def test_usage_of_a_process() -> None:
    """Time and memory of one that computes and of one that sleeps; none of one that is gone, or another."""
    busy = subprocess.Popen(
        [sys.executable, "-c", "x = b'x' * (64 << 20)\nprint(1, flush=True)\nwhile True: pass"],
        stdout=subprocess.PIPE,
    )
    idle = subprocess.Popen(["sleep", "60"])
    try:
        assert busy.stdout is not None and busy.stdout.readline()
        starts = {one.pid: process.start_time(one.pid) for one in (busy, idle)}
        deadline = time.monotonic() + 60
        while (used := process.usage(busy.pid, starts[busy.pid])) is None or used.cpus < 0.05:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        slept = process.usage(idle.pid, starts[idle.pid])
        assert used.memory_mib > 64 and used.cpus <= len(os.sched_getaffinity(0))
        assert slept is not None and slept.cpus < used.cpus and 0 < slept.memory_mib < 16
        assert process.usage(busy.pid, starts[idle.pid]) is None or starts[busy.pid] == starts[idle.pid]
    finally:
        for one in (busy, idle):
            one.kill()
            one.wait()
        assert busy.stdout is not None
        busy.stdout.close()
    assert process.usage(busy.pid, starts[busy.pid]) is None


def test_a_watch_sees_what_is_recorded(tmp_path: Path) -> None:
    """One reader follows a record that grows: every moment is that of a fresh look."""
    state = tmp_path / "state"
    fill(state, the_plan(), stop_after=8)
    with looking(state) as reader:
        watch = Watch(reader, state)
        for number in range(2, 6):
            now = datetime.now(UTC)
            assert watch.moment(now) == watch.moment(now) == moment_of(reader, state, now)
            fill(state, the_plan(), stop_after=6, daemon=f"daemon-{number}", running=number == 5)
        last = watch.moment(datetime.now(UTC))
    assert last.life == "running" and len(last.running) == 1 and last.view is not None
    assert sum(search.count.done for search in last.view.searches) > 15


def test_nothing_is_judged_anew_while_nothing_happens(live: Path) -> None:
    """A look at a record that has not changed keeps what was judged before."""
    with looking(live) as reader:
        watch = Watch(reader, live)
        first = watch.moment(datetime.now(UTC))
        assert watch.moment(datetime.now(UTC)).view is first.view


def test_sparkline() -> None:
    """Heights between the least and the greatest; what is unknown takes no place; the last ones are shown."""
    assert sparkline([3.0, None, 2.0, 1.0], 10) == "█▅▁"
    assert sparkline([9.0, 8.0, 3.0, 2.0, 1.0], 3) == "█▅▁"
    assert sparkline([2.0, 2.0], 10) == "▁▁"
    assert sparkline([None], 10) == "" == sparkline([], 10)


def test_units() -> None:
    """Energy from millijoules, memory from MiB."""
    assert [energy(3.1e5), energy(44.64e6), energy(4.464e9)] == ["310 J", "12.4 Wh", "1.24 kWh"]
    assert [memory(310.4), memory(1228.8)] == ["310 MiB", "1.2 GiB"]


def test_keys_of_a_terminal() -> None:
    """Letters, both spellings of the arrows, a lone Escape; unknown keys and torn ones mean nothing."""
    assert names(b"jk\x1b[A\x1bOB?q") == ["j", "k", "up", "down", "?", "q"]
    assert names(b"\x1b") == ["escape"] and names(b"\x1b[15~\x1b[1;5Cf") == ["f"]
    assert names(b"\x1b[") == [] == names("é\r\t".encode())


def test_looking_stays_within_what_is_there(live: Path) -> None:
    """The first and the last search and failure are ends; without a record keys do nothing."""
    with looking(live) as reader:
        moment = moment_of(reader, live, datetime.now(UTC))
    assert moment.view is not None
    labels = [search.label for search in moment.view.searches]
    where: Looking | None = Looking()
    for _ in range(9):
        assert where is not None
        where = pressed(where, "down", moment)
    assert where is not None and where.search == labels[-1]
    for _ in range(9):
        assert where is not None
        where = pressed(where, "k", moment)
    assert where is not None and where.search == labels[0]
    where = Looking(page="failures")
    for _ in range(9):
        assert where is not None
        where = pressed(where, "j", moment)
    assert where is not None and where.skipped == len(moment.view.failures) - 1
    empty = replace(moment, view=None)
    assert pressed(Looking(), "j", empty) == Looking() == pressed(Looking(), "x", moment)
    assert pressed(Looking(), "q", empty) is None
