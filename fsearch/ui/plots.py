"""The plots of what was found: d_acc with intervals, noise and threshold, heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fsearch.search.regimes import RegimeRow, TaskRegimes
from fsearch.ui.heat_map import Cell, HeatMap
from fsearch.ui.plot_rows import WIDTH, Line, height_of, in_parts, row_axes, upright
from fsearch.ui.svg import COLOURS, Plot, hint, plot
from fsearch.ui.view import SearchView
from fsearch.ui.words import bounds, margin, names, place, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRONGEST = 0.75  # opacity of the largest effect of a heat map, so that its figures can be read


def forest(name: str, found: TaskRegimes, at_least: float) -> list[Plot]:
    """d_acc with its interval for each variant in each search of a task; a dashed line at `at_least`."""
    title = f"{found.task}: d_acc of each variant"
    return in_parts(name, title, found.rows, lambda part, titled, rows: _forest(part, titled, rows, at_least))


def _forest(name: str, title: str, rows: Sequence[RegimeRow], at_least: float) -> Plot:
    lines = [
        Line(
            f"{row.variant} {place(row.where)}".strip(),
            f"{points(row.mean)} {bounds(row.low, row.high) or f'{row.stage}, one seed'}",
        )
        for row in rows
    ]

    def draw(figure: Figure) -> None:
        axes = row_axes(figure, lines, "d_acc, percentage points")
        upright(axes, lines, 0.0, COLOURS["ink"])
        upright(axes, lines, at_least * 100, COLOURS["faint"])
        for at, row in enumerate(rows):
            colour = COLOURS["ink"]
            if row.low is not None and row.high is not None:
                colour = COLOURS["gain" if row.low > 0 else "loss" if row.high < 0 else "ink"]
                axes.plot([row.low * 100, row.high * 100], [at, at], color=colour, linewidth=2.5)
            inside = "none" if row.low is None else colour
            axes.plot(
                [row.mean * 100], [at], "o", markersize=7, mec=colour, mfc=inside, gid=hint(str(lines[at]))
            )

    said = f"Points with 95 % intervals over seeds, in percentage points. {'; '.join(map(str, lines))}."
    return plot(name, title, said, WIDTH, height_of(lines), draw)


def noise(name: str, searches: Sequence[SearchView], at_least: float) -> list[Plot]:
    """The noise of a difference beside the threshold of the screen, for each search that knows its noise."""
    known = [search for search in searches if search.noise_sd is not None and search.prune_below is not None]
    return in_parts(
        name, "Noise and threshold", known, lambda part, titled, some: _noise(part, titled, some, at_least)
    )


def _noise(name: str, title: str, searches: Sequence[SearchView], at_least: float) -> Plot:
    sds = [(search.noise_sd or 0.0) * 100 for search in searches]
    lines = [
        Line(search.label, f"sd {sd:.2f} pp, threshold {margin(search.prune_below or 0.0)}")
        for search, sd in zip(searches, sds, strict=True)
    ]

    def draw(figure: Figure) -> None:
        axes = row_axes(figure, lines, "difference of two baselines, percentage points")
        upright(axes, lines, 0.0, COLOURS["ink"])
        for at, (search, sd) in enumerate(zip(searches, sds, strict=True)):
            axes.barh(at, 4 * sd, left=-2 * sd, height=0.2, color=COLOURS["faint"], alpha=0.35)
            axes.barh(at, 2 * sd, left=-sd, height=0.2, color=COLOURS["faint"], gid=hint(str(lines[at])))
            threshold = (search.prune_below or 0.0) * 100
            axes.plot([threshold] * 2, [at - 0.22, at + 0.22], color=COLOURS["loss"], linewidth=2.5)
            axes.plot([at_least * 100], [at], "D", markersize=6, color=COLOURS["gain"])

    said = (
        "One and two standard deviations of the difference of two baselines as bars, the threshold of the "
        f"screen as a line, the smallest gain worth claiming as a diamond. {'; '.join(map(str, lines))}."
    )
    return plot(name, title, said, WIDTH, height_of(lines), draw)


def heat_map(name: str, found: HeatMap) -> Plot:
    """d_acc over batch and first seeded layer, a field for each order below the other."""
    largest = max((abs(cell.mean) for cell in found.cells), default=0.0) or 1.0

    def draw(figure: Figure) -> None:
        fields = figure.subplots(len(found.orders), 1, squeeze=False)[:, 0]
        for axes, order in zip(fields, found.orders, strict=True):
            axes.set_title(f"order {order}" if order else "", loc="left")
            axes.set_xlim(-0.5, len(found.layers) - 0.5)
            axes.set_ylim(len(found.batches) - 0.5, -0.5)
            axes.set_xticks(range(len(found.layers)), [str(layer) for layer in found.layers])
            axes.set_yticks(range(len(found.batches)), [str(batch or "?") for batch in found.batches])
            axes.set_xlabel("first seeded layer")
            axes.set_ylabel("batch")
            for y, batch in enumerate(found.batches):
                for x, layer in enumerate(found.layers):
                    _field(axes, x, y, found.at(batch, order, layer), largest)

    said = "; ".join(
        f"batch {cell.batch}, {cell.order or 'no order'}, layer {cell.layer_start}: {_in_cell(cell)}"
        for cell in found.cells
    )
    title = f"{found.task}: {names(found.variants)} {place(found.where)}".rstrip()
    height = len(found.orders) * (0.9 + 0.55 * len(found.batches))
    return plot(name, title, f"d_acc in percentage points. {said}.", WIDTH, height, draw)


def _field(axes: Axes, x: int, y: int, cell: Cell | None, largest: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (x - 0.48, y - 0.46)
    if cell is None:
        axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor="none", edgecolor=COLOURS["grid"]))
        return
    colour = COLOURS["gain" if cell.mean > 0 else "loss"]
    alpha = _STRONGEST * abs(cell.mean) / largest
    axes.add_patch(
        Rectangle(
            corner, 0.96, 0.92, facecolor=colour, alpha=alpha, gid=hint(f"{cell.variant} {_in_cell(cell)}")
        )
    )
    sure = cell.low is not None and cell.high is not None and (cell.low > 0 or cell.high < 0)
    figures = points(cell.mean, 1)
    if cell.high is not None:
        figures += f"\n± {(cell.high - cell.mean) * 100:.1f}"
    else:
        figures += "\none seed"
    axes.text(x, y, figures, ha="center", va="center", fontweight="bold" if sure else "normal", fontsize=10)


def _in_cell(cell: Cell) -> str:
    return f"{points(cell.mean)} {bounds(cell.low, cell.high) or f'{cell.stage}, one seed'}"
