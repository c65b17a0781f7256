"""A plan that decides on another metric, as people and scripts see it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon import record_path
from fsearch.search.examples import bootstrap_interval
from fsearch.search.ids import digest
from fsearch.ui.state import looking
from fsearch.ui.view import Snapshot
from tests.ui.commands import fsearch
from tests.ui.record import PLAN, fill, the_plan

METRIC = "whole_answer"
TEXT = PLAN + f"metric: {METRIC}\n"
REASON = "code_exec: bwrap does not work here: bubblewrap is not installed"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of such a plan that has ended; on its quick rows another metric could not be had."""
    state = tmp_path_factory.mktemp("metric") / "state"
    fill(state, the_plan(TEXT))
    unavailable = json.dumps({"pass_at_1": REASON, "exec_ok": REASON})
    with sqlite3.connect(record_path(state)) as database:
        database.execute(
            "UPDATE attempt SET unavailable = ? WHERE stage = 'quick' AND search = 'infill'", (unavailable,)
        )
    database.close()
    return state


@pytest.fixture(scope="module")
def rows(state: Path) -> list[dict[str, Any]]:
    done = fsearch("export", "--state", state, cwd=state.parent)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_differences_are_of_the_metric_and_scores_are_scores(rows: list[dict[str, Any]]) -> None:
    """`score` is what it is in any plan; `d_acc` is formed of the metric, with the same rows."""
    baselines = {(row["search"], row["stage"], row["seed"]): row for row in rows if row["variant"] == "no_fs"}
    compared = [row for row in rows if row["d_acc"] is not None]
    assert len(compared) > 20
    for row in compared:
        baseline = baselines[row["search"], row["stage"], row["seed"]]
        assert row["d_acc"] == row["metrics"][METRIC] - baseline["metrics"][METRIC]
        assert row["metrics"][METRIC] == row["score"] ** 3 and row["metric"] == METRIC


def test_the_same_attempts_as_a_plan_that_decides_on_the_score(
    rows: list[dict[str, Any]], whole: Path
) -> None:
    """As far as both ask for them."""
    done = fsearch("export", "--state", whole, cwd=whole.parent)
    others = {row["id"] for row in map(json.loads, done.stdout.splitlines()) if row["role"] == "screen"}
    assert others == {row["id"] for row in rows if row["role"] == "screen"}


def test_a_replay_decides_on_the_metric_too(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """An export says which metric its differences are of, and a replay comes to the same ones."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "plan.yaml").write_text(TEXT)
    done = fsearch(
        "replay", tmp_path / "rows.jsonl", "--json", "--plan", tmp_path / "plan.yaml", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = {_place(one): (one["d_acc"], one["decision"]) for one in json.loads(done.stdout)}
    made = {"keep": "keep", "promote": "keep", "prune": "prune", None: None}
    wanted = {_place(row): (row["d_acc"], made[row["decision"]]) for row in rows if row["d_acc"] is not None}
    assert wanted and {place: found[place] for place in wanted} == wanted


def _place(one: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(one[name] for name in ("search", "stage", "variant", "seed"))


def test_the_interval_over_questions_is_of_the_metric(state: Path) -> None:
    """Of the same questions, each whole or not; McNemar's test where every question is its own document."""
    with looking(state) as reader:
        plan = the_plan(TEXT)
        view = Snapshot(reader, [plan]).view(plan, reader.example_values)
        infill = view.searches[0]
        (variant,) = [one for one in infill.variants if one.name == "raw_strong"]
        confirming = {
            (row.spec.variant, row.spec.seed): row
            for row in reader.attempts()
            if (row.spec.search, row.spec.role) == ("infill", "confirm")
        }
        pairs = [confirming[name, seed] for seed in range(1, 6) for name in ("raw_strong", "no_fs")]
        values = []
        for row in pairs:
            scores = reader.example_scores(row.spec.id, row.try_number, "confirm")
            assert scores is not None
            values.append((scores.correct == 3).astype(float))
    mean = sum(values[at] - values[at + 1] for at in range(0, 10, 2)) / 5
    stream = int(digest([row.spec.id for row in pairs]), 16)
    low, high = bootstrap_interval(mean, [i // 2 for i in range(512)], stream)
    assert variant.examples is not None and (variant.examples.low, variant.examples.high) == (low, high)
    assert (infill.metric, infill.chance, infill.majority) == (METRIC, None, None)
    assert set(variant.metrics) == {"score", METRIC}


@pytest.mark.parametrize("width", [80, 140])
def test_what_a_report_says(state: Path, width: int) -> None:
    """The metric, and what was unavailable with its reason."""
    done = fsearch("report", "three tasks", "--state", state, cwd=state.parent, COLUMNS=str(width))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert f"decided on {METRIC}: scores and differences are of it" in said
    assert f"warning: pass_at_1 and exec_ok are unavailable: {REASON}" in said
    assert "chance" not in said
