"""The report as Markdown, for a paper or a repository: claims, tables and what they mean; no plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fsearch.plan import BASELINE
from fsearch.ui import plain_tables
from fsearch.ui.claims import SearchClaims
from fsearch.ui.findings import Findings
from fsearch.ui.plain_tables import Table
from fsearch.ui.table import footnotes, levels
from fsearch.ui.words import margin

_SPECIAL = re.compile(r"([\\`*\[\]<>|~&$])")
_OUTER_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")  # inside a word it is no emphasis


def markdown(found: Sequence[Findings]) -> str:
    """The report of the given plans, the table of all their searches first."""
    lines = ["# fsearch report", "", *_table(plain_tables.overview([one.view for one in found]))]
    for one in found:
        lines += _plan(one)
    return "\n".join(lines) + "\n"


def _plan(found: Findings) -> Iterator[str]:
    view = found.view
    yield from ["", f"## {plain(view.name)}", ""]
    yield (
        f"{'Finished' if view.finished else 'Not finished'}. d_acc is in percentage points against "
        f"the matched baseline {BASELINE}; a gain counts from {margin(view.at_least)} on, "
        f"at alpha {view.alpha:g}."
    )
    yield from ["", "### What may be claimed"]
    for task in found.claims:
        for claims in task.searches:
            yield from _claims(claims)
    yield from ["", "### Figures"]
    for search in view.searches:
        yield from ["", f"#### {plain(search.label)}", ""]
        yield from (f"- {plain(level)}" for level in levels(search))
        if search.failed:
            yield f"Failed: {plain(search.failed)}"
            continue
        yield from ["", *_table(plain_tables.variants(search, view.at_least))]
        if table := plain_tables.metrics(search):
            yield from ["", *_table(table)]
    for regimes in view.regimes:
        if regimes.searches > 1 and regimes.rows:
            yield from ["", f"### Where it holds: {plain(regimes.task)}", ""]
            yield from _table(plain_tables.regimes(regimes))
            if table := plain_tables.best_against_best(regimes):
                yield from [
                    "",
                    "Best against best, each arm at its own best learning rate:",
                    "",
                    *_table(table),
                ]
    if found.costs:
        yield from ["", "### Where time and energy went", "", *_table(plain_tables.costs(found.costs))]
    if view.nodes:
        yield from ["", "### Nodes", "", *_table(plain_tables.nodes(view.nodes))]
    if found.failures:
        yield from ["", "### Failures", "", *_table(plain_tables.failures(found.failures))]
    if notes := footnotes(view):
        yield from ["", "### What the figures mean", "", *(f"- {plain(note)}" for note in notes)]


def _claims(claims: SearchClaims) -> Iterator[str]:
    yield from ["", f"**{plain(claims.search)}.** {plain(claims.tested)}"]
    for _, heading, sentences in claims.parts:
        yield from ["", f"{heading}:", "", *(f"- {plain(sentence)}" for sentence in sentences)]


def _table(table: Table) -> Iterator[str]:
    yield _row(table.head)
    yield _row(["---:" if at in table.right else "---" for at in range(len(table.head))], escape=False)
    yield from map(_row, table.rows)


def _row(cells: Sequence[str], escape: bool = True) -> str:
    return f"| {' | '.join(plain(cell) if escape else cell for cell in cells)} |"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: on one line, nothing in it markup, link or HTML."""
    text = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _OUTER_UNDERSCORE.sub(r"\\_", text)
