"""The figures in sentences are those of the committed exports and benchmarks, of the plans, or of the code.

The tables that are made from exports have tests/test_docs.py.
"""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from fsearch import tasks
from fsearch.plan import parse
from fsearch.search.statistics import paired_t
from fsearch.ui import data as fetched
from fsearch.ui import errors
from tests.docs.pages import ROOT, fences

NO_FIGURES = ("RWKV-7", "WKV7", "Apache-2.0", "fp32", "bf16", "[95 %]")
"""What has digits and is a name, or the head of a table."""


class Found(NamedTuple):
    """What an export says of a variant that was confirmed, in percentage points."""

    quick: float
    mean: float
    low: float
    high: float
    drafts: float

    def __str__(self) -> str:
        return f"{self.mean:+.0f} [{self.low:+.0f}, {self.high:+.0f}]"

    @property
    def pp(self) -> str:
        return f"{self.mean:+.0f} pp [{self.low:+.0f}, {self.high:+.0f}]"


def test_every_figure_of_the_readme_comes_from_somewhere() -> None:
    """Each phrase with a number stands there as it is computed here, and no other digit does."""
    left = sentences(ROOT / "README.md")
    for phrase in readme():
        assert phrase in left, f"the README does not say {phrase!r}"
        left = left.replace(phrase, "", 1)
    for name in NO_FIGURES:
        left = left.replace(name, "")
    assert not (unknown := re.findall(r".{0,30}\d.{0,30}", left)), f"from where are these: {unknown}"


def test_the_conclusions_of_the_demo_are_those_of_its_exports() -> None:
    """Each comparison that docs/demo.md draws stands there as the three exports give it."""
    text = " ".join((ROOT / "docs" / "demo.md").read_text().split())
    for phrase in conclusions():
        assert phrase in text, f"docs/demo.md does not say {phrase!r}"


def test_the_quickstart_shows_what_the_export_has() -> None:
    """Its lines of the demo's run and report have the scores and differences of docs/demo/seed-0.jsonl."""
    run, report = (
        text
        for _, _, text in fences(ROOT / "docs" / "quickstart.md")
        if "raw_strong" in text and "infill" in text
    )
    attempts = re.findall(
        r"(infill) +(quick|medium) +(\w+) +seed (\d) +acc +([\d.]+) %(?:  d_acc +(\S+) pp)?", run
    )
    assert len(attempts) == 6
    rows = {(row["search"], row["stage"], row["variant"], row["seed"]): row for row in export(0)}
    for search, stage, variant, seed, score, difference in attempts:
        row = rows[search, stage, variant, int(seed)]
        assert score == f"{100 * row['score']:.1f}"
        assert not difference or difference == f"{100 * row['d_acc']:+.2f}"
    shown = re.findall(
        r"^(?:(infill|kv_recall \w+)|  (\w+) +(\S+)  promote .*\n +medium (\S+)  \[(\S+), (\S+)\]  5 seeds"
        r"  drafts (\S+))$",
        report,
        re.MULTILINE,
    )
    search = ""
    for title, variant, *figures in shown:
        search = title or search
        if variant:
            assert figures == [f"{figure:+.2f}" for figure in found(0, search, variant)]
    assert len(shown) == 6


def readme() -> list[str]:
    """The phrases of the README that have numbers."""
    plan = parse((ROOT / "plans" / "demo.yaml").read_text(), tasks.schemas(), "plans/demo.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    head, control = (
        found(0, "kv_recall q_after", "head_trained"),
        found(0, "kv_recall q_first", "raw_detached"),
    )
    daemon = json.loads(max((ROOT / "docs" / "benchmarks").glob("*-daemon.json")).read_text())
    words = ("zero", "one", "two", "three", "four", "five")
    seeds = len({row["seed"] for row in export(0) if row["role"] == "confirm"})
    assert len(tasks.schemas()) == 15
    return [
        f"Python {project['requires-python'].removeprefix('>=')} or newer",
        f"{words[seeds]} fresh seeds; a gain counts from {100 * plan.claim.at_least:g} pp on",
        f"{head.drafts:+.0f} pp where matched runs say {head}, "
        f"and {control.drafts:+.0f} where they say {control}",
        "[fifteen tasks]",
        f"({fetched.SIZE_MB} MB, once)",
        f"a record of {most(daemon):,} attempts",
        f"(about {size_of_the_hub()} MB)",
        f"Exit codes: {errors.OK} every search ended, {errors.FAILED} it cannot be done here, "
        f"{errors.USAGE} the plan or the arguments are wrong, {errors.STATE} the state cannot be used, "
        f"{errors.BUSY} another fsearch holds the machine",
        f"was over, {errors.STOPPED} stopped by Ctrl-C or SIGTERM",
    ]


def conclusions() -> list[str]:
    """The phrases of the demo's page that compare, from the exports of its three master seeds."""
    undecided, after = (found(seed, "kv_recall q_after", "head_trained") for seed in (0, 1))
    third = found(2, "kv_recall q_after", "raw_strong")
    promoted = ("raw_detached", "head_trained", "raw_strong_l2")
    first = [found(seed, "kv_recall q_first", name) for seed, name in enumerate(promoted)]
    ahead = [one.quick for one in first]
    seeds = [row["d_acc"] for row in export(0) if row["search"] == "kv_recall q_after" and confirms(row)]
    lost, *gained = sorted(100 * d_acc for d_acc in seeds)
    weak = ("raw_detached", "scalar_l1")
    names = {
        row["variant"] for row in export(0) if row["search"] == "infill" and row["role"] == "confirm"
    } - {"no_fs"}
    gains = {name: [found(seed, "infill", name).mean for seed in (0, 1, 2)] for name in names}
    with_gradient = [gain for name in names - set(weak) for gain in gains[name]]
    without = [gain for name in weak for gain in gains[name]]
    return [
        f"with it the gain is {min(with_gradient):.0f} to {max(with_gradient):.0f} pp",
        f"{min(without):.0f} to {max(without):.0f} pp. **On kv_recall",
        f"`head_trained` {after.pp} and `raw_strong` {third.pp}",
        f"gained {gained[0]:.0f} to {gained[-1]:.0f} pp on four seeds and lost {-lost:.0f} pp on the one",
        f"together {undecided.pp}, `inconclusive`",
        f"{min(ahead):.0f} to {max(ahead):.0f} pp ahead on the screening",
        f"on fresh seeds: {first[0].pp}, {first[1].pp} and {first[2].pp}",
        f"{undecided.drafts:+.0f} pp, because 800 steps are more than 600; matched it is {undecided.pp}",
        f"{first[0].drafts:+.0f} pp, where five matched seeds say {first[0].pp}",
    ]


def confirms(row: dict[str, Any]) -> bool:
    """Whether it is a variant's confirmation."""
    return row["role"] == "confirm" and row["variant"] != "no_fs"


@cache
def export(seed: int) -> list[dict[str, Any]]:
    lines = (ROOT / "docs" / "demo" / f"seed-{seed}.jsonl").read_text().splitlines()
    return [row for line in lines if (row := json.loads(line))["role"] in ("screen", "confirm")]


def found(seed: int, search: str, variant: str) -> Found:
    """What the demo's export of a master seed says of a variant."""
    rows = [row for row in export(seed) if row["search"] == search]
    own = [row for row in rows if row["variant"] == variant]
    confirmed = sorted((row for row in own if row["role"] == "confirm"), key=lambda row: row["seed"])
    test = paired_t([row["d_acc"] for row in confirmed])
    (quick,) = (row["d_acc"] for row in own if row["role"] == "screen")
    (baseline,) = (
        row["score"] for row in rows if (row["variant"], row["role"], row["seed"]) == ("no_fs", "screen", 0)
    )
    drafts = confirmed[0]["screen_score"] - baseline
    return Found(*(100 * figure for figure in (quick, test.mean, test.low, test.high, drafts)))


def most(benchmark: Any) -> int:
    """The largest number of attempts among the sizes that were measured."""
    sizes = re.findall(r'"attempts": (\d+)', json.dumps(benchmark))
    return max(map(int, sizes))


def size_of_the_hub() -> str:
    """What `make hub` downloads, as the Makefile says it."""
    (told,) = re.findall(r"It downloads about (\d+) MB", (ROOT / "Makefile").read_text())
    return str(told)


def sentences(page: Path) -> str:
    """A page in one line, with the comments of its commands, without code, tables and addresses."""
    text = page.read_text()
    comments = [
        line.partition("#")[2]
        for language, _, block in fences(page)
        if language == "sh"
        for line in block.splitlines()
    ]
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(
        r"^\|.*$|<!--.*?-->|`[^`\n]*`|\]\([^)]*\)",
        lambda hit: "]" if hit[0][0] == "]" else "",
        text,
        flags=re.MULTILINE,
    )
    return " ".join(f"{text} {' '.join(comments)}".split())
