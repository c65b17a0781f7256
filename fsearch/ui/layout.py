"""Lines of styled text that fit a width: columns, wrapped paragraphs, and printing them.

Every screen is a list of lines made by pure functions of (view, width), so that it can be kept as a
snapshot. Colour is decoration: nothing is said by colour alone, and NO_COLOR and pipes get none.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

NARROW = 80
WIDE = 104
"""From this width on a variant is one line; below, its confirmation is a second line."""

_SHORTEST = 12
"""Letters of a name that are shown at least."""

_STYLES = {
    "at_least_delta": "bold green",
    "better_than_zero": "green",
    "worse": "red",
    "equivalent": "cyan",
    "inconclusive": "yellow",
    "failed": "bold red",
    "pruned": "dim",
    "prune": "dim",
    "noop": "dim",
    "not_promoted": "dim",
    "same": "dim",
    "waiting": "dim",
    "keep": "green",
    "promote": "green",
    "kept": "green",
    "warning": "yellow",
    "error": "red",
}


def worded(text: str) -> Text:
    """A verdict, decision or level in its colour."""
    return Text(text, _STYLES.get(text.replace(",", " ").split(" ")[0], "") if text else "")


def columns(
    rows: Sequence[Sequence[Text | str]], align: str, *, indent: int = 2, gap: int = 2, width: int = 0
) -> list[Text]:
    """Rows as lines, each column as wide as its widest cell; `align` has one of `<>` a column.

    With `width` the names of the first column are shortened, as far as that makes the lines fit.
    """
    if width:
        others = [max((_cells(row[at]) for row in rows), default=0) for at in range(1, len(align))]
        longest = max(_SHORTEST, width - indent - sum(other + gap for other in others if other))
        rows = [[shortened(row[0], longest) if isinstance(row[0], str) else row[0], *row[1:]] for row in rows]
    widths = [max((_cells(row[at]) for row in rows), default=0) for at in range(len(align))]
    lines = []
    for row in rows:
        line = Text(" " * indent)
        for at, cell in enumerate(row):
            if widths[at] == 0:
                continue
            space = " " * (widths[at] - _cells(cell))
            if at and len(line.plain) > indent:
                line.append(" " * gap)
            line.append_text(Text.assemble(space, cell) if align[at] == ">" else Text.assemble(cell, space))
        line.rstrip()
        lines.append(line)
    return lines


def shortened(name: str, longest: int) -> str:
    """A name that fits: both its ends, since what tells it from others is often the last word."""
    if len(name) <= longest:
        return name
    return f"{name[: longest // 3]}…{name[-(longest - longest // 3 - 1) :]}"


def paragraph(text: str, width: int, *, indent: int = 2, style: str = "") -> list[Text]:
    """Text broken at blanks into lines that fit, every one indented."""
    pad = " " * indent
    lines = textwrap.wrap(
        " ".join(text.split()),
        max(20, width),
        initial_indent=pad,
        subsequent_indent=pad,
        break_on_hyphens=False,
    )
    return [Text(line, style) for line in lines]


def pulled_apart(left: Text | str, right: Text | str, width: int) -> Text:
    """One line with something at either end; cut at the left if both do not fit."""
    left, right = Text.assemble(left), Text.assemble(right)
    left.truncate(max(0, width - right.cell_len - 2), overflow="ellipsis")
    return Text.assemble(left, " " * max(2, width - left.cell_len - right.cell_len), right)


def cut(line: Text, width: int) -> Text:
    """A line no wider than `width`."""
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    return line


def bar(done: int, running: int, total: int, width: int) -> Text:
    """A quiet progress bar."""
    total = max(total, 1)
    full = round(width * min(done, total) / total)
    begun = min(width - full, max(round(width * running / total), 1 if running else 0))
    return Text.assemble(
        ("━" * full, "green"), ("━" * begun, "bold yellow"), ("─" * (width - full - begun), "dim")
    )


_HEIGHTS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The known values as heights between the least and the greatest; the last `width` of them."""
    known = [value for value in values if value is not None]
    known = known[max(0, len(known) - width) :]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = (len(_HEIGHTS) - 1) / (high - low) if high > low else 0.0
    return "".join(_HEIGHTS[round((value - low) * scale)] for value in known)


def console(*, stderr: bool = False) -> Console:
    """The terminal, or a pipe that gets plain lines of 80 columns ($COLUMNS to change it)."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else max(40, _columns() or NARROW)
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False)


def put(screen: Console, lines: Iterable[Text]) -> None:
    """Print lines as they are: they fit already."""
    for line in lines:
        screen.print(line, no_wrap=True, overflow="ignore", crop=False)


def _cells(cell: Text | str) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(cell)


def _columns() -> int:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isascii() and text.isdigit() else 0
