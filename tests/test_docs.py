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

from fsearch.search.statistics import paired_t

ROOT = Path(__file__).parents[1]
PAGES = [(ROOT / "README.md", 0), *((ROOT / "docs" / "demo.md", seed) for seed in (0, 1, 2))]
HEAD = """\
| search | variant | quick d_acc | medium d_acc, mean of 5 seeds [95 %] | verdict | as the drafts reported |
|---|---|---|---|---|---|
"""


@pytest.mark.parametrize(("page", "seed"), PAGES, ids=lambda value: getattr(value, "name", value))
def test_the_tables_of_the_demo_come_from_its_exports(page: Path, seed: int) -> None:
    """Between the marks of a page stands the table that the committed export of that master seed gives."""
    begin, end = f"<!-- demo, master seed {seed} -->\n", "<!-- end of the table -->"
    lines = (ROOT / "docs" / "demo" / f"seed-{seed}.jsonl").read_text().splitlines()
    expected = table([json.loads(line) for line in lines])
    text = page.read_text()
    pattern = re.compile(re.escape(begin) + "(.*?)" + re.escape(end), re.DOTALL)
    found = pattern.search(text)
    assert found, f"{page.name} has no table between {begin.strip()} and {end}"
    if os.environ.get("FSEARCH_UPDATE_DOCS"):
        page.write_text(text[: found.start(1)] + expected + text[found.end(1) :])
    else:
        assert found[1] == expected


def test_the_links_between_the_pages_lead_somewhere() -> None:
    """Every relative link of the README and the docs names a file or folder of the repository."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def table(rows: list[dict[str, Any]]) -> str:
    """The variants of an exported plan as a Markdown table; d_acc in percentage points."""
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
    return HEAD + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"
