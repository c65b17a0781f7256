"""The plan's `notify`: real commands of a real daemon, that write, fail, hang, or are not there."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon import record_path
from fsearch.store import Reader, Store
from tests.end_to_end.conftest import STUB
from tests.end_to_end.runs import LIMIT_S, Run, attempts, events, left_after, new_state, parsed, standing
from tests.end_to_end.stub_runs import StubRun
from tests.end_to_end.test_outages import AWAY, outage_run
from tests.end_to_end.warm import Warm
from tests.hub import Hub, tables
from tests.mounted_disk import mounted_disk
from tests.tables import arc
from tests.ui.commands import ROOT

KEEPS = """\
import sys
with open("told.jsonl", "a") as file:
    file.write(sys.stdin.read())
"""
"""Run in the plan's folder."""

MANY_SEEDS = STUB.replace("seeds: 3", "seeds: 6")
"""So that the strong variant of the stand-ins is confirmed."""

Start = Callable[..., StubRun]


@pytest.fixture
def started(tmp_path: Path, warm: Warm) -> Iterator[Start]:
    """A stub run whose plan has a `notify`."""
    runs: list[StubRun] = []

    def make(notify: str, plan: str = MANY_SEEDS, state: Path | None = None, **environment: str) -> StubRun:
        (tmp_path / "keep.py").write_text(KEEPS)
        path = tmp_path / "plan.yaml"
        path.write_text(f"{plan}notify: {notify}\n")
        run = StubRun(state or new_state(tmp_path, None), path, warm, **environment)
        runs.append(run)
        run.start()
        return run

    yield make
    for run in runs:
        run.end()


def told(folder: Path) -> list[dict[str, Any]]:
    file = folder / "told.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def notify_events(run: Run) -> list[str]:
    return [event.text for event in events(run.state) if event.text.startswith("notify: ")]


def until_told(folder: Path, event: str) -> dict[str, Any]:
    """Wait for it."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        found = [one for one in told(folder) if one["event"] == event]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"{event} was not told: {told(folder)}")


def test_what_is_told_of_a_plan(tmp_path: Path, started: Start) -> None:
    """Its survivor and its end, with the figures of the record, each once, however often it is run."""
    run = started(f"{sys.executable} keep.py")
    assert run.wait() == 0, run.told()
    survivor, finished = told(tmp_path)
    plan = parsed(run.plan)
    (key,) = (key for key, verdict in standing(run.state, run.plan).verdicts.items())
    verdict = standing(run.state, run.plan).verdicts[key]
    assert (survivor["event"], survivor["variant"], survivor["search"]) == (
        "survivor_confirmed",
        "raw",
        "infill",
    )
    assert survivor["verdict"] == verdict.word and verdict.word in ("at_least_delta", "better_than_zero")
    figures = (verdict.paired.mean, verdict.paired.low, verdict.paired.high, 6)
    assert tuple(survivor[name] for name in ("d_acc", "low", "high", "seeds")) == figures
    assert survivor["provisional"] is False  # it is the only one, and the last
    assert (finished["event"], finished["searches"], finished["not_done"]) == ("plan_finished", 1, [])
    assert [one["variant"] for one in finished["confirmed"]] == ["raw"]
    for one in (survivor, finished):
        assert (one["schema"], one["plan"], one["plan_id"]) == (1, "stub", plan.id)
        assert one["text"].startswith("stub") and one["state"] == str(run.state)
    page = (ROOT / "docs" / "operations.md").read_text()
    (shown,) = re.findall(r'^{"schema": 1, "event".*$', page, re.MULTILINE)
    assert list(json.loads(shown)) == list(survivor)
    run.start()
    assert run.wait() == 0
    assert len(told(tmp_path)) == 2 and notify_events(run) == []


def test_a_command_changes_no_id(tmp_path: Path, started: Start, stub_run: StubRun) -> None:
    """Neither the plan's nor an attempt's, so what was trained without it is not trained again."""
    stub_run.to_the_end()
    before = [row.spec.id for row in attempts(stub_run.state)]
    run = started(f"{sys.executable} keep.py", STUB, stub_run.state)
    assert run.wait() == 0
    assert parsed(run.plan).id == parsed(stub_run.plan).id
    assert [row.spec.id for row in attempts(stub_run.state)] == before
    assert [one["event"] for one in told(tmp_path)][-1] == "plan_finished"  # told by the first that could


@pytest.mark.parametrize(
    ("notify", "why"),
    [
        ("./missing.sh", "it could not be started (No such file or directory)"),
        ("[sh, -c, 'echo so it is; exit 3']", "it ended with exit code 3"),
        ("[sh, -c, 'kill -9 $$']", "it was ended by signal 9"),
    ],
)
def test_a_command_that_fails_is_an_event(notify: str, why: str, started: Start) -> None:
    """The run ends as it would; each message is a warning with the reason, and is not tried again."""
    run = started(notify)
    assert run.wait() == 0, run.told()
    found = notify_events(run)
    assert len(found) == 2 and all(why in text for text in found)
    assert "survivor_confirmed" in found[0] and "plan_finished" in found[1]
    log = run.state / "logs" / "notify.log"
    assert (log.read_text() if log.exists() else "") == "so it is\n" * 2 * ("echo" in notify)
    run.start()
    assert run.wait() == 0 and len(notify_events(run)) == 2


def test_a_command_that_hangs_holds_nothing_up(tmp_path: Path, started: Start) -> None:
    """Everything is trained while it hangs; then the end waits until a signal, and nothing stays behind."""
    hangs = "[sh, -c, 'sleep 3600 & echo $$ >> pids; sleep 3600']"
    plan = MANY_SEEDS.replace("batch: 4", "batch: [2, 4]")
    run = started(hangs, plan)

    def all_done(reader: Reader) -> bool | None:
        rows = [row for row in reader.attempts() if row.spec.role == "confirm" and row.outcome == "completed"]
        return len(rows) == 2 * 12 or None

    run.until(all_done)
    assert (tmp_path / "pids").exists()
    while run.process is not None and run.process.poll() is None:
        os.kill(run.pid, signal.SIGTERM)
        time.sleep(0.2)
    left, _ = left_after(2.0, run.processes)
    assert not left
    assert any("were given up, because the daemon had to end" in text for text in notify_events(run))


def test_a_command_is_ended_after_its_time(tmp_path: Path) -> None:
    """The errand itself: what hangs is killed, what does not read its line is not in the way."""
    from fsearch.system import errand

    job = {"folder": str(tmp_path), "input": "line\n" * 100_000, "limit_s": 0.3}
    assert errand.run({**job, "command": ["sleep", "60"]}) == "it had not ended after 0.3 s, and was killed"
    assert errand.run({**job, "command": ["true"]}) == ""


def test_a_stop_is_told(tmp_path: Path, started: Start) -> None:
    """With SIGTERM, once a daemon; the environment's token is not given to the command."""
    run = started("[sh, -c, 'cat >> told.jsonl; env >> environment']", FSEARCH_STUB="1", HF_TOKEN="hf_secret")
    run.until(lambda reader: any(row.spec.stage == "quick" for row in reader.unfinished()) or None)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait() == 130
    (stopped,) = told(tmp_path)
    assert (stopped["event"], stopped["reason"], stopped["plan"]) == ("daemon_stopped", "by a signal", "stub")
    assert "hf_secret" not in (tmp_path / "environment").read_text()


def test_a_killed_daemon_takes_the_command_along(tmp_path: Path, started: Start) -> None:
    """SIGKILL while a command runs: it dies too, and the next daemon tells the same again."""
    run = started("[sh, -c, 'cat >> told.jsonl; sleep 3600']")
    until_told(tmp_path, "survivor_confirmed")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    left, _ = left_after(2.0, run.processes)
    assert not left
    run.plan.write_text(run.plan.read_text().replace("; sleep 3600", ""))
    run.start()
    assert run.wait() == 0
    assert [one["event"] for one in told(tmp_path)] == ["survivor_confirmed"] * 2 + ["plan_finished"]


def test_a_disk_that_stays_full_is_told_once(tmp_path: Path, started: Start) -> None:
    """After the time that is too long, with the time."""
    with mounted_disk(tmp_path / "disk", "32m") as disk:
        run = started(f"{sys.executable} keep.py", state=disk / "state", FSEARCH_NOTIFY_WAIT_S="1")
        waiting = until_told(tmp_path, "waiting")
        time.sleep(1.5)
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait() == 130
    assert waiting["waiting_for"] == "disk" and waiting["waited_s"] >= 1
    assert "waiting for room on the disk" in waiting["reason"]
    assert [one["event"] for one in told(tmp_path)] == ["waiting", "daemon_stopped"]


def test_a_network_that_stays_away_is_told_once(tmp_path: Path, kernel_library: Path) -> None:
    """After the time that is too long, with what is waited for."""
    (tmp_path / "keep.py").write_text(KEEPS)
    with Hub(tables([arc])) as hub:
        hub.faults.append(AWAY)
        run = outage_run(tmp_path, kernel_library, hub)
        run.plan.write_text(f"{run.plan.read_text()}notify: [{sys.executable}, keep.py]\n")
        run.environment["FSEARCH_NOTIFY_WAIT_S"] = "1"
        try:
            run.start()
            waiting = until_told(tmp_path, "waiting")
            os.kill(run.pid, signal.SIGTERM)
            assert run.wait() == 130
        finally:
            run.end()
    assert waiting["waiting_for"] == "network" and waiting["waited_s"] >= 1
    assert "the data of arc" in waiting["reason"]
    assert [one["event"] for one in told(tmp_path)] == ["waiting", "daemon_stopped"]


def test_what_was_told_is_in_the_record(tmp_path: Path) -> None:
    """Twice is once, and nothing else is read as it."""
    with Store.open(record_path(tmp_path)) as store:
        store.add_told("one")
        store.add_told("one")
        assert store.told() == {"one"} and store.facts() == {} and store.models() == {}
