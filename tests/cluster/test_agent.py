"""A place on its node, without a cluster: a real zygote and real workers, in which stand-ins train."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsearch.cluster.agent import Agent
from fsearch.daemon.outcomes import Ending, outcome_of
from fsearch.system.process import start_time
from tests.alive import runs
from tests.end_to_end.runs import descendants
from tests.end_to_end.stub_runs import STUB_PROGRAMS

LIMIT_S = 120.0


class Place:
    """An agent, and what it has said."""

    def __init__(self) -> None:
        options = {"device": "cpu", "threads": 2, "share": 0.5, "omp": None}
        self.agent = Agent(options, get=lambda reference: reference)
        self.heard = 0
        self.said: list[dict[str, Any]] = []

    def until(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first thing said from now on for which `found`."""
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            for number, said in self.agent.hear(self.heard, 1.0):
                self.heard = number
                self.said.append(said)
                if found(said):
                    return said
        raise AssertionError(self.said)

    def run(self, what: str = "run") -> None:
        copies = {"sha": {"meta.json": [b"{}"]}}
        self.agent.tell({what: copy.deepcopy(JOB), "log": "one.log", "copies": copies})

    def ended(self) -> tuple[str, str]:
        """How the attempt ended that runs: word and pattern."""
        ending = Ending(**self.until(lambda said: "ended" in said)["ended"])
        outcome = outcome_of(ending)
        return outcome.word, outcome.pattern


JOB: dict[str, Any] = {
    "attempt": "0123",
    "role": "screen",
    "steps": 5,
    "recipe": {},
    "batch": 2,
    "halves": ["screen"],
    "form": {},
    "backend": "stub",
    "model": {},
    "model_file": None,
    "data": {"path": "/nowhere", "sha256": "sha"},
    "checkpoint": {"path": "/nowhere/checkpoints/0123.pt", "every_s": 30.0},
}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in STUB_PROGRAMS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FSEARCH_NODE_DIR", str(tmp_path / "node"))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # as Ray sets it
    monkeypatch.setenv("FSEARCH_STUB", "0.2")
    yield tmp_path / "node"


def test_a_place_comes_up_and_trains(node: Path) -> None:
    """It says what it is, builds its kernel, copies the data to its node, and leaves no checkpoint behind."""
    place = Place()
    up = place.until(lambda said: "up" in said)["up"]
    assert up["backend"] == "stub" and up["environment"]["threads"] == 2 and up["memory_mib"] > 0
    assert "OMP_NUM_THREADS" not in os.environ
    place.run()
    assert place.ended() == ("completed", "result")
    kinds = [said["message"]["type"] for said in place.said if "message" in said]
    assert "progress" in kinds and "evaluation" in kinds and "result" not in kinds
    assert (node / "cache" / "copies" / "sha" / "meta.json").read_bytes() == b"{}"
    assert list((node / "checkpoints").iterdir()) == []
    place.run()
    assert place.ended() == ("completed", "result")


def test_the_next_worker_is_made_ready_on_its_node(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until it is to run, and is what runs then; its node knows the gap before its first step."""
    monkeypatch.setenv("FSEARCH_STUB", "1")
    place = Place()
    place.until(lambda said: "up" in said)
    zygote = _zygote()
    place.run("ahead")  # nobody knows yet what one takes
    place.run()
    measured = place.until(lambda said: "ended" in said)["measured"]
    assert measured == {"energy_mj": None, "idle_s": None}
    place.run("ahead")
    (ready,) = _until(lambda: _workers(zygote))
    place.run()
    place.until(lambda said: said.get("message", {}).get("type") == "progress")
    assert _workers(zygote) == [ready]
    assert place.until(lambda said: "ended" in said)["measured"]["idle_s"] > 0
    place.run("ahead")
    assert _until(lambda: _workers(zygote))
    place.agent.tell({"forget": True})
    assert _until(lambda: not _workers(zygote))


def test_a_stop_a_kill_and_a_dead_zygote(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends the attempt as it would on the daemon's own machine, and the place goes on."""
    monkeypatch.setenv("FSEARCH_STUB", "60")
    place = Place()
    place.until(lambda said: "up" in said)
    for order, ended in (("stop", "stopped"), ("kill", "killed from outside")):
        place.run()
        place.until(lambda said: said.get("message", {}).get("type") == "progress")
        place.agent.tell({order: True})
        assert place.ended() == ("interrupted", ended)
    zygote = _zygote()
    place.run()
    place.until(lambda said: said.get("message", {}).get("type") == "progress")
    os.kill(zygote, signal.SIGKILL)
    assert place.ended() == ("interrupted", "zygote died")
    assert place.until(lambda said: "event" in said)["event"][0] == "warning"
    place.run()
    place.until(lambda said: said.get("message", {}).get("type") == "progress")
    place.agent.tell({"kill": True})
    assert place.ended()[0] == "interrupted"


def _workers(zygote: int) -> list[int]:
    return [pid for pid in descendants(zygote) if runs(pid)]


def _until(found: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + LIMIT_S
    while not (what := found()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return what


def _zygote() -> int:
    """The newest that this process has started, while nothing runs: what it forks looks like it."""
    found = []
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"tests.stub.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append((start_time(pid) or 0.0, pid))
    return max(found)[1]
