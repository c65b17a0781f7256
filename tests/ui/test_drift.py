"""`report --against`: what differs between two runs of one plan, and files that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui.commands import ROOT, fsearch
from tests.ui.record import fill, the_plan
from tests.ui.test_export import exported


@pytest.fixture(scope="module")
def rows(whole: Path) -> list[dict[str, Any]]:
    return exported(whole)


@pytest.fixture
def against(whole: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The drift since an export with these rows."""

    def drift(rows: list[dict[str, Any]], state: Path = whole) -> dict[str, Any]:
        file = tmp_path / "old.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        done = fsearch("report", "--state", state, "--against", file, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["drift"]
        return found

    return drift


def trained(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["role"] in ("screen", "confirm")]


def test_another_run_of_the_plan_is_equal(
    rows: list[dict[str, Any]], against: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Every training of a second run, made in two goes under other code, to the digit."""
    state = tmp_path / "again"
    fill(state, the_plan(), stop_after=30, environment="environment-2")
    fill(state, the_plan(), environment="environment-2", daemon="daemon-2")
    found = against(rows, state)
    assert (found["equal"], found["changed"]) == (len(trained(rows)), 0)
    assert (found["missing"], found["new"], found["verdicts"]) == ([], [], [])
    assert found["other_fingerprint"] == len(trained(rows))


def test_what_has_changed(
    rows: list[dict[str, Any]], against: Callable[..., dict[str, Any]], whole: Path, tmp_path: Path
) -> None:
    """The last digit of a score, a metric, an outcome, a verdict, a row of each run alone."""
    old = json.loads(json.dumps(rows))
    scored = [row for row in old if row["search"] == "kv_recall q_after" and row["role"] == "confirm"]
    scored[0]["score"] += 1e-15
    scored[1]["metrics"]["f1_values"] += 0.25
    scored[2]["outcome"], scored[2]["score"] = "crashed", None
    for row in old:
        if (row["search"], row["variant"]) == ("infill", "raw_strong"):
            row["verdict"] = "inconclusive"
    alone = old.pop(old.index(scored[3]))
    old.append({**alone, "id": "0123456789abcdef", "seed": 99})
    found = against(old)
    changed = {one["id"]: one for one in found["compared"] if one["kind"] == "changed"}
    now = {row["id"]: row for row in rows}
    first, second, third = (row["id"] for row in scored[:3])
    assert set(changed) == {first, second, third}
    assert changed[first]["before"] == {"score": scored[0]["score"]}
    assert changed[first]["after"] == {"score": now[first]["score"]}
    assert changed[second]["before"].keys() == {"metrics.f1_values"}
    assert changed[third]["before"] == {"outcome": "crashed", "score": None}
    assert [one["id"] for one in found["new"]] == [alone["id"]]
    assert [(one["id"], one["seed"]) for one in found["missing"]] == [("0123456789abcdef", 99)]
    turned = {
        "search": "infill",
        "variant": "raw_strong",
        "before": "inconclusive",
        "after": "at_least_delta",
    }
    assert found["verdicts"] == [turned]
    assert found["equal"] == len(trained(rows)) - 4

    done = fsearch("report", "--state", whole, "--against", "old.jsonl", cwd=tmp_path)
    said = " ".join(done.stdout.split())
    assert f"{found['equal']} equal to the digit; 3 changed; 1 missing; 1 new; 1 verdict changed." in said
    assert "infill raw_strong inconclusive at_least_delta" in said
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_run_that_has_not_ended(
    rows: list[dict[str, Any]], against: Callable[..., dict[str, Any]], live: Path
) -> None:
    """What has not ended in one of both is neither equal nor changed; what is not there yet is missing."""
    found = against(rows, live)
    kinds = [one["kind"] for one in found["compared"]]
    assert kinds.count("open") == 1 and kinds.count("changed") == 0
    assert len(kinds) + len(found["missing"]) == len(trained(rows))


def test_an_older_export_without_later_keys(
    rows: list[dict[str, Any]], against: Callable[..., dict[str, Any]]
) -> None:
    """Keys that an older release did not write are not compared."""
    later = ("metrics", "memory_mib", "energy_mj")
    found = against([{key: row[key] for key in row if key not in later} for row in rows])
    assert (found["equal"], found["changed"]) == (len(trained(rows)), 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no file old.jsonl."),
        ("", "old.jsonl has no rows; records are JSON objects, one a line."),
        ("id,plan\n1,2\n", "old.jsonl:1: this is not a JSON object on one line"),
        ('{"a": 1}\n', "old.jsonl:1: this is no row of `fsearch export`."),
        ('{"schema": 99, "role": "screen"}\n', "schema 99; this release reads schema 1"),
        (ROOT / "tests/fixtures/drafts/r20.jsonl", "old.jsonl has the drafts' records; an export of ours"),
        (ROOT / "docs/demo/seed-0.jsonl", "no trained attempt in common with this record: it is of 'demo'"),
    ],
)
def test_files_that_are_no_older_run(whole: Path, tmp_path: Path, content: Any, said: str) -> None:
    """A sentence that says what the file is instead, and exit code 2."""
    if content is not None:
        text = content.read_text() if isinstance(content, Path) else content
        (tmp_path / "old.jsonl").write_text(text)
    done = fsearch("report", "--state", whole, "--against", "old.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_it_is_for_the_terminal(whole: Path, tmp_path: Path) -> None:
    """Page and Markdown say what was found, not what changed."""
    done = fsearch("report", "--state", whole, "--against", "x", "--html", "y", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == ("--against is for the terminal and for --json; leave out --markdown and --html.\n")
