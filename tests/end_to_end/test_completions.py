"""A plan that decides on whether programs work: a small model learns to write them, and they are run.

The problems are made here: a word says what a function does, a letter is the name of its argument.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest

from fsearch.store import DaemonRecord, Reader, open_reader
from fsearch.tasks.code_exec import self_test
from tests.end_to_end.runs import COMMAND_LINE, Run, assert_whole, attempts, new_state, run_of

LEVEL = "unsafe" if self_test("bwrap") else "bwrap"
"""These programs are harmless."""

PLAN = f"""
name: small code problems
model: {{init: {{n_layer: 2, n_embd: 32, head_size: 8}}}}
train: {{lr: 1.0e-2}}
stages:
  - {{name: quick, steps: 120}}
  - {{name: medium, steps: 10, seeds: 3}}
screen: {{prune_below: 0.49}}
evaluate:
  generate: {{max_tokens: 32, temperature: 0.3, samples: 2, examples: 8, at: [60]}}
  code_exec: {LEVEL}
metric: pass_at_1
variants:
  - {{name: strong, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}}
tasks:
  - {{task: mbpp, source: offline, tokenizer: bytes, batch: 16, n_train: 64, n_val: 24}}
"""
WORDS = {"twice": "* 2", "next": "+ 1", "square": "** 2", "same": "+ 0"}
AT = 60


@pytest.fixture(scope="module", autouse=True)
def tables(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The problems, where `fsearch data fetch` would have put MBPP's."""
    folder = tmp_path_factory.mktemp("tables")
    rows = []
    for number, (word, letter) in enumerate(product(WORDS, ascii_lowercase)):
        code = f"def f({letter}): return {letter} {WORDS[word]}"
        results = {x: eval(f"{x} {WORDS[word]}") for x in (3, 8)}
        tests = [f"assert f({x}) == {result}" for x, result in results.items()]
        rows.append({"task_id": number, "text": f"{word} {letter}", "code": code, "test_list": tests})
    (folder / "mbpp.jsonl").write_text(
        "".join(json.dumps({**row, "test_setup_code": ""}) + "\n" for row in rows)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSEARCH_DATA", str(folder))
        yield


def plan_in(folder: Path, text: str = PLAN) -> Path:
    (folder / "plan.yaml").write_text(text)
    return folder / "plan.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> Run:
    """The plan, run to its end."""
    folder = tmp_path_factory.mktemp("programs")
    with run_of(new_state(folder, kernel_library), plan_in(folder)) as run:
        run.to_the_end()
    return run


def test_what_is_recorded(run: Run) -> None:
    """Token accuracy, programs that run and programs that work, of both arms; decided on the last."""
    assert_whole(run.state)
    baseline, variant = [row for row in run.exported() if row["role"] == "screen"]
    assert (baseline["variant"], variant["variant"]) == ("no_fs", "strong")
    for row in (baseline, variant):
        found = row["metrics"]
        assert row["metric"] == "pass_at_1" and row["unavailable"] == {}
        assert row["completions"]["examples"] == 8 and row["completions"]["code_exec"] == LEVEL
        assert 0.5 < row["score"] < 1
        assert 0 <= found["pass_at_1"] <= found["pass_at_2"] <= 1
        assert found["pass_at_1"] <= found["tests_passed"] <= found["exec_ok"] <= 1
        assert sum(found[name] for name in found if name.startswith("programs_")) == 16
        assert found["programs_passed"] == 16 * found["pass_at_1"]
    assert baseline["metrics"]["exec_ok"] > 0.5 and baseline["metrics"]["pass_at_1"] > 0
    assert variant["d_acc"] == variant["metrics"]["pass_at_1"] - baseline["metrics"]["pass_at_1"]
    assert variant["d_acc"] != variant["score"] - baseline["score"]
    assert (variant["decision"], variant["verdict"]) == ("prune", "pruned")


def test_what_single_examples_and_the_curve_say(run: Run) -> None:
    """The record has the metric of each judged example, and the figures of the step on the way."""
    with open_reader(run.state / "fsearch.db") as reader:
        for row in (row for row in attempts(run.state) if row.spec.role == "screen"):
            place = (row.spec.id, row.try_number)
            scores = reader.example_scores(*place, "screen")
            assert scores is not None
            for metric in ("pass_at_1", "tests_passed", "exec_ok"):
                values = reader.example_values(*place, "screen", metric)
                assert values is not None and len(values) == len(scores.total)
                assert (~np.isnan(values)).sum() == 8
                assert np.nanmean(values) == pytest.approx(row.metrics[metric], abs=1e-12)
            whole = reader.example_values(*place, "screen", "whole_answer")
            assert whole is not None and whole.mean() == row.metrics["whole_answer"]
            on_the_way = [point for point in reader.evaluations(*place) if point.metrics]
            assert [point.step for point in on_the_way] == [AT] and "pass_at_1" in on_the_way[0].metrics


def told(run: Run, *words: str) -> str:
    command = [*COMMAND_LINE, *words, str(run.plan), "--state", str(run.state)]
    return " ".join(subprocess.run(command, capture_output=True, text=True, timeout=120).stdout.split())


def test_what_people_are_told(run: Run) -> None:
    """The report names the metric, `check` the cost, and `run` shows the metric beside each attempt."""
    report = told(run, "report")
    assert "decided on pass_at_1: scores and differences are of it" in report
    assert "chance" not in report  # which is a level of the score
    check = told(run, "check")
    assert "completions of 8 examples a half, 2 samples each, up to 32 tokens at temperature 0.3" in check
    assert "an attempt in 2 recorded ones" in check
    assert run.output.read_text().count("pass_at_1 ") >= 2


def generating(reader: Reader) -> DaemonRecord | None:
    daemon = reader.daemon()
    doing = ("completions", "programs run", "generate")
    screening = any(row.spec.role == "screen" for row in reader.unfinished())
    return daemon if daemon and screening and any(word in daemon.step for word in doing) else None


def test_killed_while_completions_are_generated(run: Run, tmp_path: Path, kernel_library: Path) -> None:
    """Killed with its worker in the middle, and started again: the same table to the digit."""
    with run_of(new_state(tmp_path, kernel_library), plan_in(tmp_path)) as killed:
        killed.start()
        killed.until(generating)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert [row.outcome for row in attempts(killed.state) if row.spec.role == "screen"] == [None]
        killed.to_the_end()
        assert killed.exported() == run.exported()


def test_a_run_that_cannot_run_programs_says_so_before_it_begins(tmp_path: Path) -> None:
    """What the plan decides on is not to be had: the place in the plan and the reason, and no record."""
    if LEVEL != "bwrap":
        pytest.skip("the sandbox does not work here")
    state = tmp_path / "state"
    command = [*COMMAND_LINE, "run", str(plan_in(tmp_path)), "--state", str(state)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "PATH": "/nowhere"}
    )
    line = PLAN.split("\n").index("metric: pass_at_1") + 1
    assert done.returncode == 2 and not state.exists()
    assert f"plan.yaml:{line}:9: metric: pass_at_1 needs programs to be run" in done.stderr
    assert "bubblewrap is not installed" in done.stderr


def test_a_run_that_only_reports_programs_goes_on_without_them(tmp_path: Path, kernel_library: Path) -> None:
    """It decides on the score; what was unavailable, and why, stands in rows, export and report."""
    text = PLAN.replace("metric: pass_at_1\n", "").replace("steps: 120", "steps: 6").replace(", at: [60]", "")
    plan = plan_in(tmp_path, text.replace(LEVEL, "bwrap"))
    with run_of(new_state(tmp_path, kernel_library), plan, environment={"PATH": "/nowhere"}) as run:
        run.to_the_end()
        rows = [row for row in run.exported() if row["role"] == "screen"]
        assert len(rows) == 2 and {row["outcome"] for row in rows} == {"completed"}
        for row in rows:
            assert row["metric"] == "score" and row["score"] is not None
            assert set(row["unavailable"]) == {"exec_ok", "tests_passed", "pass_at_1", "pass_at_2"}
            assert "exact_match" in row["metrics"] and not set(row["unavailable"]) & set(row["metrics"])
        assert rows[1]["d_acc"] == rows[1]["score"] - rows[0]["score"]
        report = told(run, "report")
        assert "are unavailable: code_exec: bwrap does not work here: bubblewrap is not installed" in report
