"""What a daemon does with a GPU, step by step, in a process whose NVML is the stand-in.

Each function is one story; it tells what was seen, and the tests say what that must be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fsearch.daemon import devices
from fsearch.daemon.card import LEAVE_DEADLINE_S, Card
from fsearch.daemon.child import Child
from fsearch.daemon.logs import Log
from fsearch.daemon.telemetry import Telemetry
from fsearch.store import Store
from fsearch.system.messages import Reader
from tests.nvml.standin import FIRST, StandIn, gpu
from tests.store.store_samples import in_child, ready, spec

NVML = StandIn(Path(os.environ.get("FSEARCH_TEST_NVML", "")).parent)


def found(answers: str, asked: str, visible: str | None) -> Any:
    """What `devices.find` gives, in a process that has asked NVML nothing yet: a device, or a sentence."""
    NVML.says(answers)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible

    def ask() -> Any:
        try:
            device = devices.find(asked)
        except devices.NoDevice as missing:
            return str(missing)
        assert "torch" not in sys.modules
        more = {"lock": device.lock, "environment": device.environment, "told": str(device)}
        return asdict(device) | more

    return in_child(ask)


def memory_mib(*answers: str) -> list[int | None]:
    """What an attempt may take on a GPU, for each of what NVML may answer at the start."""

    def ask() -> int | None:
        return Card(FIRST, lambda level, text: None).attempt_memory_mib

    found = []
    for text in answers:
        NVML.says(text)
        found.append(in_child(ask))
    return found


@contextlib.contextmanager
def attempt(store: Store, number: int) -> Iterator[Child]:
    """A process that does nothing, and the row of an attempt that it runs."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(["sleep", "1000"])
    log = Log(store.path.parent / "log")
    child = Child(process.pid, Reader(read_end), log)
    child.attempt = store.begin(spec(number), 1, "f1", {}, "d1", child.pid, child.pid_started)
    yield child
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(log.writer)
    log.close()
    os.close(read_end)
    os.close(write_end)


def watch(telemetry: Telemetry, seconds: float) -> None:
    """As the daemon's loop does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        telemetry.sample()
        time.sleep(0.05)


def sampled(path: str) -> dict[str, Any]:
    """An attempt of some seconds during which NVML fails once, and one on a GPU that has only memory."""
    events: list[tuple[str, str]] = []
    with ready(Path(path)) as store:
        telemetry = Telemetry(store, Card(FIRST, lambda level, text: events.append((level, text))))
        with attempt(store, 0) as child:
            telemetry.before()
            telemetry.begin(child)
            NVML.says(gpu(used_mib=8500, processes=[(child.pid, 8000)]))
            watch(telemetry, 1.5)
            NVML.says("error 999\n")
            watch(telemetry, 2.0)
            NVML.says(gpu(used_mib=8500, processes=[(child.pid, 8000)]))
            watch(telemetry, 1.5)
            telemetry.end()
        energy_mj = [child.energy_mj]
        NVML.says("unsupported 1\n" + gpu())
        with attempt(store, 1) as child:
            telemetry.before()
            telemetry.begin(child)
            telemetry.end()
        energy_mj.append(child.energy_mj)
        samples = [
            [
                [one.offset_s, one.utilisation, one.memory_mib, one.power_w, one.temperature_c, one.energy_mj]
                for one in store.telemetry(spec(number).id, 1)
            ]
            for number in (0, 1)
        ]
    return {"samples": samples, "energy_mj": energy_mj, "events": events}


def neighbours(path: str) -> list[float]:
    """What others took during attempts: before them, beside them, only after them, and not at all."""
    found = []
    with ready(Path(path)) as store:
        telemetry = Telemetry(store, Card(FIRST, lambda level, text: None))

        def story(number: int, before: str, beside: str, after: str) -> None:
            with attempt(store, number) as child:
                NVML.says(gpu(used_mib=500 + 3000 * (before == "others")))
                telemetry.before()
                telemetry.begin(child)
                own = [(child.pid, 9000)]
                NVML.says(gpu(used_mib=9500 + 2000 * (beside == "others"), processes=own))
                watch(telemetry, 1.5)
                NVML.says(gpu(used_mib=500 + 1000 * (after == "others")))
                telemetry.end()
                found.append(child.ending.others_mib)

        story(0, "others", "", "")
        story(1, "", "others", "")
        story(2, "", "", "others")
        story(3, "", "", "")
    return found


def leaving() -> dict[str, Any]:
    """The wait for an attempt's memory: its process, its memory, both gone; then memory that stays."""
    events: list[tuple[str, str]] = []
    card = Card(FIRST, lambda level, text: events.append((level, text)))
    seen = [card.waits_for(0.0)]
    card.leaves(4711, 0.0)
    NVML.says(gpu(used_mib=9500, processes=[(4711, 9000)]))
    seen.append(card.waits_for(0.1))
    NVML.says(gpu(used_mib=9500))
    seen.append(card.waits_for(0.2))
    NVML.says(gpu(used_mib=520))
    seen.append(card.waits_for(0.3))
    NVML.says(gpu(used_mib=6000, processes=[(815, 5500)]))
    card.leaves(4712, 1.0)
    stays = [card.waits_for(1.0 + LEAVE_DEADLINE_S - 0.1), card.waits_for(1.0 + LEAVE_DEADLINE_S)]
    card.leaves(4713, 100.0)
    stays.append(card.waits_for(100.1))
    NVML.says("error 999\n")
    card.leaves(4714, 200.0)
    stays.append(card.waits_for(200.1))
    return {"seen": seen, "stays": stays, "events": events, "memory_mib": card.attempt_memory_mib}
