"""Plots of rows: a name on the left, figures on the right, and below them what is drawn.

All are as wide as a telephone is: names stand above their bars, so that nothing has to scroll.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fsearch.ui.layout import shortened
from fsearch.ui.svg import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.0
"""Inches; with letters of 11 points."""

_ROW = 0.50  # inches of a name with its bar
_MOST_ROWS = 14  # of one plot, so that it fits on a printed page
_LONGEST = 38  # letters of a name beside figures; the tables have it in full

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """What stands above a bar."""

    name: str
    figures: str

    def __str__(self) -> str:
        return f"{self.name}: {self.figures}"


def in_parts(
    name: str, title: str, rows: Sequence[T], draw: Callable[[str, str, Sequence[T]], Plot]
) -> list[Plot]:
    """Many rows as several plots."""
    parts = [rows[at : at + _MOST_ROWS] for at in range(0, len(rows), _MOST_ROWS)]
    more = [f", {at + 1} of {len(parts)}" if len(parts) > 1 else "" for at in range(len(parts))]
    return [draw(f"{name}-{at}", title + more[at], part) for at, part in enumerate(parts)]


def height_of(lines: Sequence[Line]) -> float:
    """Inches of a plot with these rows."""
    return 0.6 + _ROW * len(lines)


def row_axes(figure: Figure, lines: Sequence[Line], label: str) -> Axes:
    """Axes with a row at 0, 1, 2, ... from above, whose names and figures stand over what will be drawn."""
    axes = figure.subplots()
    axes.set_ylim(len(lines) - 0.5, -0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    above = axes.get_yaxis_transform()
    for at, line in enumerate(lines):
        axes.text(0, at - 0.28, shortened(line.name, _LONGEST), transform=above, va="bottom")
        axes.text(1, at - 0.28, line.figures, transform=above, va="bottom", ha="right")
    return axes


def upright(axes: Axes, lines: Sequence[Line], x: float, colour: str) -> None:
    """A line across every bar, which leaves out the names."""
    rows = range(len(lines))
    axes.vlines(
        [x] * len(lines), [at - 0.25 for at in rows], [at + 0.35 for at in rows], color=colour, linewidth=1.2
    )
