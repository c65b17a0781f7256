"""The report as Markdown: read by another program it is the same tables and sentences, and nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from fsearch.ui import plain_tables
from fsearch.ui.findings import Findings, findings_of
from fsearch.ui.markdown import markdown, plain
from fsearch.ui.state import looking
from fsearch.ui.view import Snapshot
from tests.ui.commands import fsearch
from tests.ui.record import the_plan


@pytest.fixture(scope="module")
def found(whole: Path) -> Findings:
    with looking(whole) as reader:
        return findings_of(Snapshot(reader, [the_plan()]).view(the_plan(), reader.example_values), reader)


def parsed_tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as cells of plain text, head first."""
    tables: list[list[list[str]]] = []
    cell = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            cell = True
        elif token.type == "inline" and cell:
            kinds = {child.type for child in token.children or []}
            assert kinds <= {"text", "text_special"}, token.content
            tables[-1][-1].append("".join(child.content for child in token.children or []))
            cell = False
    return tables


def test_the_tables_are_those_of_the_page(found: Findings) -> None:
    """Cell by cell, in the order of the page: overview, each search, regimes, costs, failures."""
    view = found.view
    wanted = [plain_tables.overview([view])]
    for search in (one for one in view.searches if not one.failed):
        wanted.append(plain_tables.variants(search, view.at_least))
        wanted += [table] if (table := plain_tables.metrics(search)) else []
    wanted += [plain_tables.regimes(task) for task in view.regimes if task.searches > 1 and task.rows]
    wanted += [plain_tables.costs(found.costs), plain_tables.failures(found.failures)]
    assert parsed_tables(markdown([found])) == [
        [list(table.head), *map(list, table.rows)] for table in wanted
    ]


def test_every_sentence_of_the_claims_is_there(found: Findings) -> None:
    """Tested, may, may not, drafts and warnings of every search."""
    text = markdown([found])
    for task in found.claims:
        for claims in task.searches:
            said = [claims.tested, *claims.may, *claims.may_not, *claims.drafts, *claims.minded]
            assert len(said) > 1 and all(plain(sentence) in text for sentence in said)


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "<script>alert(1)</script>",
        "[here](https://x.test) ![y](z)",
        "*a* **b** _c_ `d` ~~e~~ $f$ \\g",
        "raw_strong_l2 and _x_ and x_",
        "&lt; &amp;",
        "several\nlines\n\n# of text",
        "<https://x.test>",
    ],
)
def test_text_stays_text(text: str) -> None:
    """Whatever a name or reason holds, a reader of Markdown shows it as it is, on one line."""
    ((head, row),) = parsed_tables(f"| {plain(text)} | x |\n|---|---|\n| {plain(text)} | y |\n")
    assert (head, row) == ([" ".join(text.split()), "x"], [" ".join(text.split()), "y"])


def test_the_names_of_variants_stay_readable() -> None:
    """An underscore inside a word is no emphasis and is not escaped."""
    assert plain("raw_strong_l2 of kv_recall") == "raw_strong_l2 of kv_recall"


def test_to_a_file_or_to_the_terminal(whole: Path, tmp_path: Path) -> None:
    """The same text both ways; a file is named on stderr; two things for the terminal are refused."""
    printed = fsearch("report", "--state", whole, "--markdown", "-", cwd=tmp_path)
    written = fsearch("report", "--state", whole, "--markdown", "found.md", cwd=tmp_path)
    assert (printed.stderr, written.stdout) == ("", "")
    assert (tmp_path / "found.md").read_text() == printed.stdout
    assert written.stderr.startswith("wrote found.md (")
    both = fsearch("report", "--state", whole, "--markdown", "-", "--json", cwd=tmp_path)
    assert (both.returncode, both.stdout) == (2, "")
    assert both.stderr == (
        "Two reports for one terminal: of --json, --markdown - and --html - give one, or a file.\n"
    )
