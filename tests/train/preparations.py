"""Preparations from a loopback hub as processes, started, watched and judged the way the daemon does it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon.child import PROGRESS_DEADLINE_S, Child, spawn
from fsearch.daemon.outcomes import Outcome, outcome_of
from tests.hub import Repository, parquet, repository

COLOURS = ("red", "green", "blue", "black")
REPO = "acme/colours"
README = b"""---
configs:
- config_name: plain
  data_files:
  - split: train
    path: plain/train.parquet
  - split: test
    path: plain/test.parquet
---
# Colours
"""
TASK = {
    "data": REPO,
    "config": "plain",
    "val_split": "test",
    "prompt": "{thing} is",
    "answer": " {colour}",
    "tokenizer": "bytes",
    "n_train": 40,
    "n_val": 16,
}
"""Arguments of `sft` for `colours()`."""

LIMIT_S = 240.0


def rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"thing": f"thing {i}", "colour": COLOURS[i * i % 7 % 4]} for i in range(start, start + n)]


def files() -> dict[str, bytes]:
    """A data set with a card and two splits."""
    table = {"plain/train.parquet": parquet(rows(60)), "plain/test.parquet": parquet(rows(30, 100))}
    return {"README.md": README, **table}


def colours() -> dict[str, Repository]:
    return {f"datasets/{REPO}": repository(files())}


@dataclass
class Preparation:
    """One preparation, again and again: its folder keeps prepared data and the hub's cache."""

    folder: Path
    address: str  # of the hub
    arguments: dict[str, Any] = field(default_factory=lambda: dict(TASK))
    task: str = "sft"
    pins: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    cache: Path | None = None
    fetch_s: float = 120.0  # how long it may fetch without a byte

    @property
    def job(self) -> dict[str, Any]:
        cache = str(self.cache or self.folder / "cache")
        asked = {"task": self.task, "arguments": self.arguments, "master_seed": 3}
        return {"kind": "prepare", **asked, "cache": cache, "pins": self.pins}

    @property
    def home(self) -> Path:
        return self.folder / "hf"

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def start(self) -> Child:
        self.folder.mkdir(parents=True, exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith("HF_"):
                    patch.delenv(name)
            endpoint = {"HF_ENDPOINT": self.address, "HF_HOME": str(self.home)}
            for name, value in {**endpoint, **self.environment}.items():
                patch.setenv(name, value)
            return spawn("prepare", self.job, self.folder / "log")


@dataclass
class Ended:
    preparation: Preparation
    outcome: Outcome
    messages: list[dict[str, Any]]
    seconds: float

    @property
    def word(self) -> str:
        return self.outcome.word

    @property
    def result(self) -> dict[str, Any]:
        assert self.word == "completed", f"{self.outcome}\n{self.preparation.log}"
        return self.messages[-1]

    @property
    def sha256(self) -> str:
        return str(self.result["data"]["sha256"])

    @property
    def phases(self) -> list[str]:
        return [message["phase"] for message in self.messages if message["type"] == "phase"]


def run(preparation: Preparation) -> Ended:
    return run_all([preparation])[0]


def run_all(preparations: Iterable[Preparation], at_once: int = 2) -> list[Ended]:
    """Run preparations, so many at a time."""
    waiting = deque(enumerate(preparations))
    running: dict[int, tuple[Preparation, Child, list[dict[str, Any]], float]] = {}
    ended: dict[int, Ended] = {}
    with pytest.MonkeyPatch.context() as patch:
        while waiting or running:
            while waiting and len(running) < at_once:
                place, preparation = waiting.popleft()
                running[place] = preparation, preparation.start(), [], time.monotonic()
            for place, (preparation, child, messages, began_s) in list(running.items()):
                messages += child.read()
                patch.setitem(PROGRESS_DEADLINE_S, "fetch", preparation.fetch_s)
                if child.overdue() and not child.ended and child.ending.silent_s is None:
                    child.ending.silent_s = child.silent_s()
                    child.kill()
                took_s = time.monotonic() - began_s
                assert took_s < LIMIT_S, f"{messages}\n{preparation.log}"
                if child.ended:
                    del running[place]
                    messages += child.read()
                    ended[place] = Ended(preparation, outcome_of(child.close()), messages, took_s)
            time.sleep(0.02)
    return [ended[place] for place in sorted(ended)]
