"""The GPU of a daemon: its readings in the record, its neighbours, and the memory of the last attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.nvml.standin import FIRST, StandIn, gpu


def told(nvml: StandIn, scenario: str) -> Any:
    """What a story of `tests.nvml.scenarios` tells."""
    return nvml.ask(f"from tests.nvml import scenarios\nanswer = scenarios.{scenario}")


def test_readings_are_in_the_record(nvml: StandIn, tmp_path: Path) -> None:
    """A reading a second; blanks while NVML fails, with one event at each end; energy from the counter."""
    story = told(nvml, f"sampled({str(tmp_path / 'fsearch.db')!r})")
    first, blank, again, *_ = story["samples"][0]
    offset_s, *values, energy_mj = first
    assert offset_s >= 1.0
    assert values == [0.9, 8500, 200, 60]
    assert energy_mj == pytest.approx(200 * 1000 * offset_s, abs=100_000)  # W * ms
    assert blank[1:] == [None] * 5 and blank[0] > offset_s
    last = story["samples"][0][-1]
    assert last[1:5] == [0.9, 8500, 200, 60] and last[0] > again[0] > blank[0]
    assert story["energy_mj"][0] == last[5] == pytest.approx(200 * 1000 * last[0], abs=100_000)
    (only,) = story["samples"][1]
    assert only[1:] == [None, 500, None, None, None] and story["energy_mj"][1] is None
    (silent, back) = story["events"]
    assert silent[0] == "warning" and FIRST in silent[1] and "Unknown Error" in silent[1]
    assert "stay blank" in silent[1] and back == ["info", f"NVML answers again for {FIRST}"]


def test_what_others_take_is_seen(nvml: StandIn, tmp_path: Path) -> None:
    """Before an attempt, beside it, or only at its end: the most that was seen; its own never counts."""
    assert told(nvml, f"neighbours({str(tmp_path / 'fsearch.db')!r})") == [3000, 2000, 1000, 0]


def test_the_next_attempt_waits_for_the_memory(nvml: StandIn) -> None:
    """Until process and memory are gone; what stays after the deadline is said once, then accepted."""
    story = told(nvml, "leaving()")
    assert story["seen"] == [
        None,
        "process 4711, the attempt before, has not left the GPU",
        "9500 MiB of the GPU are in use, 500 MiB when fsearch started",
        None,
    ]
    held = "6000 MiB of the GPU are in use, 500 MiB when fsearch started"
    assert story["stays"] == [held, None, None, None]
    (warning, silent) = story["events"]
    assert warning[1].startswith(f"{held}; the next attempt starts all the same")
    assert silent[1].startswith("NVML does not answer")
    assert story["memory_mib"] == 24000 - 500 - 1024


def test_what_an_attempt_may_take_is_what_was_free(nvml: StandIn) -> None:
    """Less room for CUDA itself; nobody knows where NVML does not say it."""
    answers = (gpu(used_mib=20000), gpu(used_mib=23900), "error 999\n" + gpu())
    assert told(nvml, f"memory_mib(*{answers!r})") == [24000 - 20000 - 1024, 1, None]
