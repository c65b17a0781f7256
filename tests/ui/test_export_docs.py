"""docs/export.md and docs/report.md: every key is explained, with its type; the recipe works as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.ui.state import looking
from tests.ui.commands import ROOT, fsearch
from tests.ui.test_export import exported

EXPORT = (ROOT / "docs" / "export.md").read_text()
REPORT = (ROOT / "docs" / "report.md").read_text()
KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "list": (list,),
    "null": (type(None),),
}


def table(page: str, mark: str) -> list[list[str]]:
    """The cells of the table that ends at a mark."""
    before = page.split(f"<!-- end of the {mark} -->")[0]
    lines = before[before.rindex("|---") :].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|", 2)] for line in lines]


def assert_documented(objects: list[dict[str, Any]], mark: str) -> None:
    """The keys of all objects, in their order, each of a type that its row names; and no row without use."""
    rows = table(EXPORT, mark)
    assert {tuple(item) for item in objects} == {tuple(row[0].strip("`") for row in rows)}
    for name, kinds, told in ((row[0].strip("`"), row[1].split(" or "), row[2]) for row in rows):
        assert told
        allowed = tuple(kind for word in kinds for kind in KINDS[word])
        values = [item[name] for item in objects]
        assert all(isinstance(value, allowed) for value in values), name
        assert "boolean" in kinds or not any(isinstance(value, bool) for value in values), name
        used = {kind for kind in KINDS for value in values if isinstance(value, KINDS[kind])}
        assert set(kinds) & used, name


@pytest.fixture(scope="module")
def detailed(whole: Path) -> list[dict[str, Any]]:
    return exported(whole, "--curves", "--examples")


def test_every_key_is_documented(whole: Path, stopped: Path) -> None:
    """The table of docs/export.md is that of the code: names, order and types."""
    assert_documented([*exported(whole), *exported(stopped, "--tries")], "keys")


def test_curves_are_those_of_the_record(whole: Path, detailed: list[dict[str, Any]]) -> None:
    """Every evaluation of the exported try, by step; and its table."""
    assert_documented([point for item in detailed for point in item["curve"]], "curve")
    with looking(whole) as reader:
        for item in detailed:
            kept = reader.evaluations(item["id"], item["try"])
            assert [point["score"] for point in item["curve"]] == [point.score for point in kept]
    trained = [item for item in detailed if item["score"] is not None]
    assert {len(item["curve"]) for item in trained} == {8, 9}
    assert all(item["curve"][-1]["step"] == item["steps"] for item in trained)


def test_examples_are_those_of_the_record(whole: Path, detailed: list[dict[str, Any]]) -> None:
    """Every example of the halves that were scored, with what it was made from; and its table."""
    halves = [scores for item in detailed for scores in item["examples"].values()]
    assert_documented(halves, "examples")
    assert len(halves) == 5 * (3 + 3 + 2)  # the confirmations, baselines included; screens have none here
    assert {tuple(map(len, scores.values())) for scores in halves} == {(512,) * 4}
    with looking(whole) as reader:
        for item in detailed:
            for half, scores in item["examples"].items():
                kept = reader.example_scores(item["id"], item["try"], half)
                assert kept is not None
                assert scores["correct"] == kept.correct.tolist()
                assert scores["loss"] == kept.loss.tolist()
    infill = next(item for item in detailed if item["examples"] and item["task"] == "infill")
    assert infill["examples"]["confirm"]["document"] == [512 + number // 2 for number in range(512)]


def test_details_are_there_on_demand_alone(whole: Path, detailed: list[dict[str, Any]]) -> None:
    """Without the options the objects are as ever; with them nothing else changes."""
    plain = [{key: item[key] for key in item if key not in ("curve", "examples")} for item in detailed]
    assert plain == exported(whole)
    assert [list(item)[-1] for item in exported(whole, "--curves")] == ["curve"] * len(plain)


def test_the_recipe_for_pandas(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the page, as it stands, gives the effects and the curves of the export."""
    (code,) = re.findall(r"```python\n(.*?)```", EXPORT, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 11
    rows = exported(whole, "--curves")
    (tmp_path / "attempts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)
    trained = {
        (row["search"], row["variant"], row["role"], row["seed"]): row
        for row in rows
        if row["score"] is not None
    }
    assert len(found["effects"]) == 5
    for (search, variant), effect in found["effects"].iterrows():
        values = [trained[search, variant, "confirm", seed]["d_acc"] for seed in range(1, 6)]
        assert list(effect) == pytest.approx([np.mean(values), np.std(values, ddof=1), 5])
    assert len(found["curves"]) == 3 * 8
    for (search, step), scores in found["curves"].iterrows():
        curve = trained[search, "raw_strong", "screen", 0]["curve"]
        (score,) = [point["score"] for point in curve if point["step"] == step]
        assert scores["raw_strong"] == pytest.approx(score)


def test_every_key_of_the_report_is_documented(whole: Path) -> None:
    """`report --json`: the keys of a plan stand in docs/report.md, and no others."""
    done = fsearch("report", "--json", "--state", whole, cwd=whole.parent)
    found = json.loads(done.stdout)
    assert list(found) == ["schema", "plans"] and found["schema"] == 2
    told = [name for row in table(REPORT, "keys") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(told) == sorted(found["plans"][0])
