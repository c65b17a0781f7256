"""`fsearch bench search` and `fsearch bench startup` in their quick forms: the tables, the JSON, mistakes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsearch.search.specs import probe_spec
from fsearch.ui.bench_sides import PARTS, Side, differences
from fsearch.ui.bench_startup import PARTS as PARTS_OF_A_START
from fsearch.ui.cli import parser
from tests.alive import runs
from tests.end_to_end.runs import descendants
from tests.search.builders import row, search_of
from tests.ui.commands import ROOT, fsearch


def test_a_plan_through_both_sides(state: Path, tmp_path: Path) -> None:
    """The sides come to the same numbers, and the parts of each add up to its wall time."""
    asked = ("--quick", "--against", "processes", "--json", "found.json", "--state", str(state))
    locks = {"FSEARCH_LOCK_DIR": str(tmp_path)}
    done = fsearch("bench", "search", *asked, cwd=tmp_path, **locks)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and max(map(len, done.stdout.splitlines())) <= 80
    assert "results equal to the digit" in done.stdout
    report = json.loads((tmp_path / "found.json").read_text())
    (found,) = report["rows"]
    assert (report["bench"], found["plan"], found["trainings"], found["differ"]) == ("search", "quick", 2, [])
    for side in ("daemon", "processes"):
        parts = found[side]["parts_s"]
        assert list(parts) == list(PARTS) and min(parts.values()) >= 0
        assert sum(parts.values()) == pytest.approx(found[side]["wall_s"])
        assert parts["work"] > 0 and parts["start"] > 0 and found[side]["cpu_s"] > 0
    assert (found["daemon"]["interpreters"], found["processes"]["interpreters"]) == (3, 3)
    assert found["wall_ratio"] == pytest.approx(found["daemon"]["wall_s"] / found["processes"]["wall_s"])
    work = {side: found[side]["parts_s"]["work"] for side in ("daemon", "processes")}
    assert found["one_speed_ratio"] == pytest.approx(found["wall_ratio"] * work["processes"] / work["daemon"])
    assert found["idle_s"]["sum"] > 0
    assert not list(state.glob("bench-*"))


def test_the_ways_to_a_first_step(state: Path, tmp_path: Path) -> None:
    """Every part of every way is there and they add up; the gaps are those of a real run."""
    asked = ("--quick", "--json", "found.json", "--state", str(state))
    locks = {"FSEARCH_LOCK_DIR": str(tmp_path)}
    done = fsearch("bench", "startup", *asked, cwd=tmp_path, **locks)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and max(map(len, done.stdout.splitlines())) <= 80
    report = json.loads((tmp_path / "found.json").read_text())
    for way in ("cold", "forked", "warmed"):
        took = {name: values["median"] for name, values in report["ways"][way].items()}
        assert list(took) == [f"{part}_s" for part in (*PARTS_OF_A_START, "whole")]
        assert min(took.values()) > 0
        assert sum(took[f"{part}_s"] for part in PARTS_OF_A_START) == pytest.approx(took["whole_s"])
    gaps = report["gaps"]
    assert gaps["attempts"] == 6 and 0 < gaps["idle_s"]["median"] < gaps["steps_s"]["median"]
    cold_s = report["ways"]["cold"]["whole_s"]["median"]
    assert report["gap_to_cold"] == pytest.approx(gaps["steps_s"]["median"] / cold_s)
    assert not list(state.glob("bench-*"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing(state: Path, tmp_path: Path, sent: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the run that is measured too: 130, no JSON, no folder."""
    command = [sys.executable, "-m", "fsearch", "bench", "search", "--quick", "--state", str(state)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FSEARCH_LOCK_DIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as bench:
        while not (below := descendants(bench.pid)) or not list(state.glob("bench-*/quick/run.log")):
            assert bench.poll() is None
            time.sleep(0.01)
        bench.send_signal(sent)
        assert bench.wait(30) == 130
    deadline = time.monotonic() + 2.0
    while any(map(runs, below)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(runs, below))
    assert not list(state.glob("bench/*"))


def test_a_digit_is_a_difference() -> None:
    """Sides that disagree, or of which one lacks a training, are named."""
    spec = probe_spec(search_of(), 4)
    one = Side(trained={"a": row(spec, score=0.25), "b": row(spec), "d": row(spec, seconds={"load": 1.0})})
    other = Side(trained={"a": row(spec, score=0.125), "c": row(spec), "d": row(spec)})
    assert differences(one, one) == []
    assert differences(one, other) == ["a", "b", "c"]


def test_surfaces_are_frozen() -> None:
    """The options are a promise too."""
    given = {
        "search": {"plan", "--against", "--threads", "--quick", "--json", "--state", "--help", "-h"},
        "startup": {"--threads", "--quick", "--json", "--state", "--help", "-h"},
    }
    for subject, options in given.items():
        whole = parser()
        for name in ("bench", subject):
            inner = next(one for one in whole._actions if isinstance(one, argparse._SubParsersAction))
            whole = inner.choices[name]
        assert {name for one in whole._actions for name in one.option_strings or [one.dest]} == options


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "nowhere.yaml"], "nowhere.yaml"),
        (["search", "--against", "everything"], "invalid choice: 'everything'"),
        (["startup", "--json", "."], "--json . is a folder."),
    ],
)
def test_mistakes(state: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    """A mistake is one sentence and exit code 2, before anything is measured."""
    done = fsearch("bench", *arguments, "--state", str(state), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
