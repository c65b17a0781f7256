"""What the pages say is what was measured: their tables are made from the committed exports.

FSEARCH_UPDATE_DOCS=1 writes the tables anew.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fsearch import tasks
from fsearch.plan import Variant, parse, schema
from fsearch.plan.variant import GRAMMAR
from fsearch.search.statistics import paired_t

ROOT = Path(__file__).parents[1]
PAGES = [
    (ROOT / "README.md", "demo", 0),
    *((ROOT / "docs" / "demo.md", "demo", seed) for seed in (0, 1, 2)),
    *((ROOT / "docs" / "controls.md", "controls", seed) for seed in (0, 1, 2)),
]
HEADS = {
    "demo": """\
| search | variant | quick d_acc | medium d_acc, mean of 5 seeds [95 %] | verdict | as the drafts reported |
|---|---|---|---|---|---|
""",
    "controls": """\
| search | no_fs, mean of 5 seeds | variant | d_acc [95 %], pp | verdict |
|---|---|---|---|---|
""",
}


@pytest.mark.parametrize(("page", "plan", "seed"), PAGES, ids=lambda value: getattr(value, "name", value))
def test_the_tables_come_from_the_exports(page: Path, plan: str, seed: int) -> None:
    """Between the marks of a page stands the table that the committed export of that master seed gives."""
    begin, end = f"<!-- {plan}, master seed {seed} -->\n", "<!-- end of the table -->"
    export = (ROOT / "docs" / plan / f"seed-{seed}.jsonl").read_text().splitlines()
    lines = {"demo": demo, "controls": controls}[plan]([json.loads(line) for line in export])
    expected = HEADS[plan] + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    text = page.read_text()
    pattern = re.compile(re.escape(begin) + "(.*?)" + re.escape(end), re.DOTALL)
    found = pattern.search(text)
    assert found, f"{page.name} has no table between {begin.strip()} and {end}"
    if os.environ.get("FSEARCH_UPDATE_DOCS"):
        page.write_text(text[: found.start(1)] + expected + text[found.end(1) :])
    else:
        assert found[1] == expected


def test_the_plan_reference_is_that_of_the_schema() -> None:
    """docs/plan.md is made from the fields, their defaults and their docstrings."""
    page = ROOT / "docs" / "plan.md"
    if os.environ.get("FSEARCH_UPDATE_DOCS"):
        page.write_text(reference())
    assert page.read_text() == reference()


def test_the_plan_in_the_readme_can_be_run() -> None:
    """The README's example is a valid plan."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    parse(text, tasks.schemas(), "README.md")


def test_the_links_between_the_pages_lead_somewhere() -> None:
    """Each relative link of the README and the docs names a file, folder or heading of the repository."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", page.read_text()):
            place = page.parent / target if target else page
            assert place.exists(), f"{page.name}: {target}"
            assert not heading or heading in headings(place), f"{page.name}: {target}#{heading}"


def headings(page: Path) -> set[str]:
    """The names by which a page's headings are linked to."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


def demo(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The variants of an export, screened and confirmed, a row each; d_acc in percentage points."""
    lines = []
    trained = [row for row in rows if row["role"] in ("screen", "confirm")]
    for search in dict.fromkeys(row["search"] for row in trained):
        inside = [row for row in trained if row["search"] == search]
        baseline = [row for row in inside if row["variant"] == "no_fs"]
        quick = [row["score"] for row in baseline if row["role"] == "screen" and row["seed"] == 0]
        medium = [row["score"] for row in baseline if row["role"] == "confirm"]
        mean = f"accuracy {100 * sum(medium) / len(medium):.1f} %" if medium else ""
        lines.append([search, "no_fs", f"accuracy {100 * quick[0]:.1f} %", mean, "", ""])
        for name in dict.fromkeys(row["variant"] for row in inside if row["variant"] != "no_fs"):
            own = [row for row in inside if row["variant"] == name]
            screened = [
                points(row["d_acc"]) for row in own if row["role"] == "screen" and row["d_acc"] is not None
            ]
            confirmed = sorted((row for row in own if row["role"] == "confirm"), key=lambda row: row["seed"])
            interval = drafts = ""
            if confirmed:
                test = paired_t([row["d_acc"] for row in confirmed])
                assert test.n == 5
                interval = f"{points(test.mean)} [{points(test.low)}, {points(test.high)}]"
                drafts = points(confirmed[0]["screen_score"] - quick[0])
            lines.append(["", name, "".join(screened), interval, f"`{own[0]['verdict']}`", drafts])
    return lines


def controls(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The variants of an export of a plan with one stage, a row each; d_acc in percentage points."""
    lines = []
    confirmed = [row for row in rows if row["role"] == "confirm"]
    for search in dict.fromkeys(row["search"] for row in confirmed):
        inside = [row for row in confirmed if row["search"] == search]
        scores = [row["score"] for row in inside if row["variant"] == "no_fs"]
        first = [search, f"{100 * sum(scores) / len(scores):.1f} %"]
        for name in dict.fromkeys(row["variant"] for row in inside if row["variant"] != "no_fs"):
            own = sorted((row for row in inside if row["variant"] == name), key=lambda row: row["seed"])
            test = paired_t([row["d_acc"] for row in own])
            interval = f"{points(test.mean)} [{points(test.low)}, {points(test.high)}]"
            lines.append([*first, name, interval, f"`{own[0]['verdict']}`"])
            first = ["", ""]
    return lines


def points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def reference() -> str:
    """The plan reference as Markdown."""
    plan = [
        ("The top level", schema.PlanFields),
        ("model", schema.Model),
        ("model.init", schema.Init),
        ("train", schema.Recipe),
        ("stages", schema.Stage),
        ("stages.seeds: {first: ..., then: ...}", schema.TopUp),
        ("screen", schema.Screen),
        ("claim", schema.Claim),
        ("limits", schema.Limits),
        ("evaluate", schema.Evaluate),
        ("evaluate.generate", schema.Generate),
        ("A variant, written out", Variant),
        ("An entry of tasks", schema.TaskOptions),
        ("batch: {largest: ...}", schema.Largest),
    ]
    lines = [
        "# Plan reference",
        "",
        "Made from the schema (`fsearch/plan/schema.py`, `fsearch/plan/variant.py`, `fsearch/tasks`). Scores",
        "and thresholds are fractions: 0.01 is one percentage point. `fsearch check PLAN` says what a plan",
        "would do.",
        "",
        "An editor that knows YAML schemas completes the fields, shows these texts and underlines mistakes:",
        "`fsearch check --schema > fsearch-plan.json`, and as the first line of a plan beside it",
        "",
        "```yaml",
        "# yaml-language-server: $schema=fsearch-plan.json",
        "```",
        "",
        "(for VS Code with the YAML extension, and editors with yaml-language-server). It takes every valid",
        "plan; `fsearch check PLAN` sees more mistakes, and has the last word.",
        "",
        "A variant is a name or a mapping. A name is:",
        "",
        "```",
        *GRAMMAR.replace(", then", ",\nthen").replace("; anything", ";\nanything").split("\n"),
        "```",
    ]
    for title, model in plan:
        lines += ["", f"## {title}", "", *fields(model)]
    for name, model in tasks.schemas().items():
        lines += ["", f"## Task {name}", "", *fields(model)]
    return "\n".join([*lines, ""])


def fields(model: type[BaseModel]) -> list[str]:
    lines = [(model.__doc__ or "").split("\n")[0], "", "| field | default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no docstring"
        default = field.default
        if default is PydanticUndefined:
            shown = "required"
        elif isinstance(default, BaseModel):
            shown = "as below"
        else:
            shown = f"`{json.dumps(default)}`"
        lines.append(f"| `{name}` | {shown} | {field.description} |")
    return lines
