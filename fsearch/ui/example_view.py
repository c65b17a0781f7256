"""An example as lines for a person: every character accounted for, what is scored between ⟦ and ⟧.

A character that would not be seen is shown by a sign, a long text loses its middle, and what was left out is
counted. A line that goes on with the one above it is told from a line of its own by its margin.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from fsearch.tasks.task import Span

SCORED = "bold green"
OPEN, CLOSE = "⟦", "⟧"
BLANK = "␣"
LEGEND = (
    f"{OPEN}scored{CLOSE}",
    "│ a line",
    "┆ goes on with the line above",
    f"{BLANK} a blank at a line's end",
)
_UNSEEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"))
_BREAK_FROM = 2 / 3
"""A line is broken at a blank only in its last third, so that it is not short for a long word."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """One character of the text, as it is shown."""

    text: str
    style: str
    blank: bool = False


def excerpt(spans: Iterable[Span], width: int, at_most: int) -> list[Text]:
    """The text of the spans in at most `at_most` lines of `width` columns."""
    lines = [line for source in _source_lines(spans) for line in _wrapped(source, width - 4)]
    shown = [_line(cells, begins) for cells, begins in lines]
    if len(lines) <= at_most:
        return shown
    head, tail = at_most // 2, (at_most - 1) // 2
    left_out = sum(len(cells) for cells, _ in lines[head : len(lines) - tail])
    note = Text(f"  … {left_out:,} characters are left out here …", "yellow")
    return [*shown[:head], note, *shown[len(lines) - tail :]]


def _source_lines(spans: Iterable[Span]) -> Iterator[list[_Cell]]:
    """The text's own lines; blanks at their ends are made visible."""
    line: list[_Cell] = []
    for scored, run in groupby(spans, key=lambda span: span.scored):
        text = "".join(span.text for span in run)
        for at, character in enumerate(text):
            shown = "" if character == "\n" else _visible(character)
            if scored:
                shown = OPEN * (at == 0) + shown + CLOSE * (at == len(text) - 1)
            line.append(_Cell(shown, SCORED if scored else "", character == " "))
            if character == "\n":
                yield _with_blanks_shown(line)
                line = []
    yield _with_blanks_shown(line)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character != " " and unicodedata.category(character) in _UNSEEN:
        return f"<U+{code:04X}>"
    return character


def _with_blanks_shown(line: list[_Cell]) -> list[_Cell]:
    for at in reversed(range(len(line))):
        if line[at].blank:
            line[at] = _Cell(line[at].text.replace(" ", BLANK), line[at].style)
        elif line[at].text:
            break
    return line


def _wrapped(cells: list[_Cell], width: int) -> Iterator[tuple[Sequence[_Cell], bool]]:
    """Pieces of a line no wider than `width`, each with whether it begins the line."""
    begin = 0
    while True:
        end, used, after_blank = begin, 0, 0
        while end < len(cells) and used + (size := cell_len(cells[end].text)) <= max(width, size):
            used += size
            end += 1
            if cells[end - 1].blank and used >= width * _BREAK_FROM:
                after_blank = end
        if end < len(cells) and after_blank:
            end = after_blank
        yield cells[begin:end], begin == 0
        if end == len(cells):
            return
        begin = end


def _line(cells: Sequence[_Cell], begins: bool) -> Text:
    line = Text.assemble(("  │ " if begins else "  ┆ ", "dim"))
    for style, run in groupby(cells, key=lambda cell: cell.style):
        line.append("".join(cell.text for cell in run), style)
    return line
