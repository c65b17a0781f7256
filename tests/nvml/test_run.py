"""A whole run beside a GPU that is watched: energy in its rows, a GPU that is lost and comes back, NVML that
dies. The workers train on the CPU, because only the daemon is looked at here; `tests/gpu` has the others."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from fsearch.daemon import record_path
from fsearch.daemon.lock import DeviceLock, LockHeld
from fsearch.search.rows import AHEAD, Attempt
from fsearch.store import Reader, open_reader
from tests.end_to_end.conftest import ONE_STAGE
from tests.end_to_end.runs import attempts, daemon_of, events, new_state, run_of
from tests.nvml.standin import FIRST, MODEL, StandIn, gpu

POWER_W = 150

ENDLESS = 500
"""So many seeds that the run cannot come to its end while it is looked at, however late a look is."""


def test_a_run_beside_a_gpu(
    nvml: StandIn, tmp_path: Path, kernel_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lock, fingerprint and rows name the GPU; held memory is waited for; lost is an outcome; NVML's end
    blanks the columns and ends nothing."""
    plan = tmp_path / "watched.yaml"
    plan.write_text(ONE_STAGE.replace("steps: 400, seeds: 3", f"steps: 300, seeds: {ENDLESS}"))
    state = new_state(tmp_path, kernel_library)
    nvml.says(gpu(power_w=POWER_W))
    command = (sys.executable, "-m", "tests.nvml.watched")
    with run_of(state, plan, command=command, environment=nvml.environment) as run:
        run.start()
        run.until(lambda reader: trained(reader) or None)
        monkeypatch.setenv("FSEARCH_LOCK_DIR", run.environment["FSEARCH_LOCK_DIR"])
        with pytest.raises(LockHeld, match=f"the {FIRST} of this machine is in use by pid {run.pid}"):
            DeviceLock(FIRST, {})
        run.until(lambda reader: reading_of(reader))
        nvml.says(gpu(power_w=POWER_W, used_mib=9000))
        held = "9000 MiB of the GPU are in use, 500 MiB when fsearch started"
        run.until(lambda reader: ((told := reader.daemon()) and told.step == held) or None)
        nvml.says(gpu(power_w=POWER_W))
        run.until(lambda reader: running(reader) or None)
        nvml.says("error 15\n")
        lost = run.until(
            lambda reader: next((row for row in rows(reader) if row.outcome == "gpu_lost"), None)
        )
        nvml.says(gpu(power_w=POWER_W))
        run.until(lambda reader: lost.spec.id in [row.spec.id for row in trained(reader)] or None)
        nvml.says("error 999\n")
        known = len(trained_of(state))
        # The next one may have taken its last reading before, and be written down only now.
        run.until(lambda reader: len(trained(reader)) > known + 1 or None)
        run.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        assert run.wait() == 130, run.told()

    assert daemon_of(state).lock.endswith(f"fsearch-{FIRST}.lock")
    assert lost.outcome_class == "infrastructure" and "says NVML" in lost.reason
    first, *_, last = trained_of(state)
    assert {row.fingerprints["device"] for row in trained_of(state)} == {MODEL}
    assert first.spec.memory_mib == 24000 - 500 - 1024
    with open_reader(record_path(state)) as reader:
        sample = reader.telemetry(first.spec.id, 1)[-1]
        blank = reader.telemetry(last.spec.id, last.try_number)[-1]
    assert (sample.utilisation, sample.power_w) == (0.9, POWER_W)
    assert first.energy_mj == sample.energy_mj
    assert first.energy_mj == pytest.approx(POWER_W * 1000 * sample.offset_s, abs=75_000)
    assert last.energy_mj is None
    assert (blank.utilisation, blank.memory_mib, blank.power_w, blank.energy_mj) == (None,) * 4
    said = [event.text for event in events(state) if "NVML" in event.text]
    assert [("does not answer" in text, "answers again" in text) for text in said] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def rows(reader: Reader) -> list[Attempt]:
    """What a worker ran or runs, in the order of recording."""
    return [row for row in reader.attempts() if row.spec.role not in AHEAD]


def reading_of(reader: Reader) -> bool | None:
    """Whether the daemon says, of an attempt that trains, what the GPU takes."""
    daemon = reader.daemon()
    reading = daemon.progress.get("reading") if daemon else None
    return True if reading and reading["power_w"] == POWER_W else None


def trained(reader: Reader) -> list[Attempt]:
    return [row for row in rows(reader) if row.outcome == "completed" and row.spec.role != "probe"]


def running(reader: Reader) -> list[Attempt]:
    return [row for row in rows(reader) if row.outcome is None]


def trained_of(state: Path) -> list[Attempt]:
    return [row for row in attempts(state) if row.outcome == "completed" and row.spec.role == "confirm"]
