"""The export: which objects, which keys, which numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from fsearch.plan import expand
from fsearch.ui.asked import views_of
from tests.ui.commands import fsearch
from tests.ui.record import fill, the_plan

KEYS = [
    *("schema", "id", "plan", "plan_name", "search", "task", "arguments", "model", "recipe", "batch"),
    *("micro_batch", "stage", "role", "variant", "form", "seed", "master_seed", "try", "outcome"),
    *("outcome_class", "reason", "score", "loss", "acc_pooled", "screen_score", "metrics"),
    *("screen_metrics", "unavailable", "completions", "metric", "d_acc"),
    *(
        "decision",
        "verdict",
        "provisional",
        "steps",
        "tokens",
        "backend",
        "superseded",
        "seconds",
        "energy_mj",
        "idle_s",
        "peak_memory_mib",
        "memory_mib",
    ),
    *("started_at", "ended_at", "fingerprint", "node"),
]


def exported(state: Path, *options: str | Path) -> list[dict[str, Any]]:
    done = fsearch("export", "--state", state, *options, cwd=state.parent)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def objects(whole: Path) -> list[dict[str, Any]]:
    return exported(whole)


def test_keys_are_frozen(objects: list[dict[str, Any]]) -> None:
    """Scripts rely on the keys and their order: a new one is a visible decision."""
    assert {tuple(item) for item in objects} == {tuple(KEYS)}
    assert {item["schema"] for item in objects} == {1}


def test_one_object_an_id(objects: list[dict[str, Any]]) -> None:
    """No attempt stands twice, none that has ended is missing."""
    ids = [item["id"] for item in objects]
    assert len(ids) == len(set(ids))
    roles = [item["role"] for item in objects]
    assert roles.count("build") == 1
    assert roles.count("prepare") == 4
    assert roles.count("probe") == 3


def test_d_acc_is_against_the_matched_baseline(objects: list[dict[str, Any]]) -> None:
    """Every difference is the score minus that of no_fs of the same search, stage and seed."""
    place = ("search", "stage", "seed")
    baselines = {
        tuple(item[key] for key in place): item["score"] for item in objects if item["variant"] == "no_fs"
    }
    compared = [item for item in objects if item["d_acc"] is not None]
    for item in compared:
        assert item["d_acc"] == item["score"] - baselines[tuple(item[key] for key in place)]
    trained = [
        item
        for item in objects
        if item["role"] in ("screen", "confirm") and item["score"] is not None and item["variant"] != "no_fs"
    ]
    assert compared == trained


def test_metrics_are_those_of_the_attempt(objects: list[dict[str, Any]]) -> None:
    """Each trained attempt has those of its task, to the bit; what was not trained has none."""
    for item in objects:
        names = ["whole_answer"] + ["f1_values"] * (item["search"] == "kv_recall q_after")
        wanted = {"whole_answer": lambda score: score**3, "f1_values": lambda score: score / 3}
        trained = item["score"] is not None
        assert item["metrics"] == ({name: wanted[name](item["score"]) for name in names} if trained else {})


def test_the_report_has_the_metrics_of_both_arms(whole: Path, objects: list[dict[str, Any]]) -> None:
    """For a confirmed variant: the means over the confirmation seeds of baseline, variant and their matched
    difference, from the exported rows; for one that was not confirmed nothing."""
    done = fsearch("report", "--json", "--state", whole, cwd=whole.parent)
    (plan,) = json.loads(done.stdout)["plans"]
    checked = 0
    for search in plan["searches"]:
        rows = [item for item in objects if item["search"] == search["label"] and item["role"] == "confirm"]
        for variant in search["variants"]:
            if variant["same_as"]:
                continue
            arms = {
                name: {item["seed"]: item["metrics"] for item in rows if item["variant"] == name}
                for name in ("no_fs", variant["name"])
            }
            before, after = arms["no_fs"], arms[variant["name"]]
            assert len(after) in (0, 5)
            assert set(variant["metrics"]) == {name for metrics in after.values() for name in metrics}
            for name, found in variant["metrics"].items():
                pairs = [(before[seed][name], after[seed][name]) for seed in after]
                assert found == {
                    "baseline": pytest.approx(sum(pair[0] for pair in pairs) / 5, abs=1e-14),
                    "variant": pytest.approx(sum(pair[1] for pair in pairs) / 5, abs=1e-14),
                    "difference": pytest.approx(sum(b - a for a, b in pairs) / 5, abs=1e-14),
                }
                checked += 1
    assert checked == 5 + 2  # whole answers of each of the five, and the other metric of two of them


def test_decisions_and_verdicts(objects: list[dict[str, Any]]) -> None:
    """The words are those of the protocol; a baseline has neither."""
    for item in objects:
        if item["variant"] == "no_fs":
            assert item["decision"] is None and item["verdict"] is None
    by = {(item["search"], item["stage"], item["variant"]): item for item in objects}
    assert by["infill", "quick", "raw_strong"]["decision"] == "promote"
    assert by["infill", "medium", "raw_strong"]["verdict"] == "at_least_delta"
    assert by["infill", "quick", "raw_strong_l2"]["decision"] == "keep"
    assert by["infill", "quick", "raw_strong_l2"]["verdict"] == "not_promoted"
    assert by["kv_recall q_first", "quick", "scalar_l1"]["decision"] == "prune"
    assert by["kv_recall q_first", "quick", "scalar_l1"]["d_acc"] == 0.0
    assert by["infill", "quick", "scalar_l3"]["verdict"] == "noop"
    assert by["infill", "quick", "silent"]["outcome"] == "noop"
    assert by["infill", "quick", "wild"]["verdict"] == "failed"


def test_interval_is_the_paired_t_of_the_export(whole: Path, objects: list[dict[str, Any]]) -> None:
    """The shown mean and interval are those of scipy.stats on the exported differences."""
    views, _ = views_of(None, whole)
    checked = 0
    for search in views[0].searches:
        for variant in search.variants:
            found = [
                item["d_acc"]
                for item in objects
                if item["search"] == search.label
                and item["variant"] == variant.name
                and item["role"] == "confirm"
            ]
            if not found:
                continue
            test = scipy.stats.ttest_1samp(found, 0.0)
            low, high = test.confidence_interval(0.95)
            assert variant.mean == pytest.approx(sum(found) / len(found), abs=1e-12)
            assert (variant.low, variant.high) == pytest.approx((low, high), abs=1e-9)
            checked += 1
    assert checked == 5


def test_order_is_that_of_asking(objects: list[dict[str, Any]]) -> None:
    """Searches come in the plan's order, in each its data, batch, screen and confirmation."""
    labels = list(dict.fromkeys(item["search"] for item in objects if item["search"]))
    assert labels == [search.label for search in expand(the_plan())]
    roles = list(dict.fromkeys(item["role"] for item in objects if item["search"] == "infill"))
    assert roles == ["prepare", "screen", "probe", "confirm"]  # the static no-op's row comes first


def test_same_lines_after_an_interruption(whole: Path, tmp_path: Path) -> None:
    """A record made in three goes exports the same, times and the numbers of tries aside."""
    state = tmp_path / "state"
    for number, steps in enumerate((17, 23, None)):
        fill(state, the_plan(), stop_after=steps, daemon=f"daemon-{number}")
    drop = ("started_at", "ended_at", "try")  # data that were refused are asked for again by each daemon

    def settled(place: Path) -> list[dict[str, Any]]:
        return [{key: item[key] for key in item if key not in drop} for item in exported(place)]

    assert settled(state) == settled(whole)


def test_rows_of_an_older_environment_are_superseded(tmp_path: Path) -> None:
    """An unfinished search begins again under new code; its old rows stay and say so."""
    state = tmp_path / "state"
    fill(state, the_plan(), stop_after=40, environment="environment-1")
    first = exported(state)
    fill(state, the_plan(), environment="environment-2", daemon="daemon-2")
    counted = exported(state)
    assert not any(item["superseded"] for item in first)
    assert not any(item["superseded"] for item in counted if item["search"] == "infill")
    every = exported(state, "--tries")
    old = [item for item in every if item["superseded"]]
    assert old and {item["search"] for item in old} == {"kv_recall q_after"}
    assert all(item["d_acc"] is None and item["verdict"] is None for item in old)
    assert len(every) > len(counted)


def test_plan_by_file_name_and_id(whole: Path, tmp_path: Path) -> None:
    """A plan may be named by its file, its name or its id; the objects are the same."""
    plan = the_plan()
    file = tmp_path / "elsewhere.yaml"
    file.write_text(plan.text)
    every = exported(whole)
    assert exported(whole, file) == exported(whole, plan.name) == exported(whole, plan.id) == every


def test_csv_says_the_same(whole: Path, objects: list[dict[str, Any]]) -> None:
    """CSV has a line an object and nested values under dotted names."""
    done = fsearch("export", "--csv", "--state", whole, cwd=whole.parent)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == [item["id"] for item in objects]
    for row, item in zip(rows, objects, strict=True):
        assert row["score"] == ("" if item["score"] is None else repr(item["score"]))
        assert row["seconds.train"] == (
            "" if "train" not in item["seconds"] else repr(item["seconds"]["train"])
        )
        for name in ("whole_answer", "f1_values"):
            value = item["metrics"].get(name)
            assert row[f"metrics.{name}"] == ("" if value is None else repr(value))
