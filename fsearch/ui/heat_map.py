"""d_acc over batch x order x first seeded layer, where a plan has such a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fsearch.search.ids import digest
from fsearch.search.regimes import RegimeRow, TaskRegimes
from fsearch.ui.view import SearchView


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One variant in one search."""

    batch: int | None  # None before the largest that fits is found
    order: str  # "" for a task that has none
    layer_start: int
    variant: str
    search: str
    stage: str
    mean: float
    low: float | None  # two-sided 95 % interval; None of one seed
    high: float | None
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Variants of one task that differ in their first seeded layer alone, over the task's searches."""

    task: str
    variants: tuple[str, ...]
    where: dict[str, Any]  # what else tells these searches from the task's others
    batches: tuple[int | None, ...]
    orders: tuple[str, ...]
    layers: tuple[int, ...]
    cells: tuple[Cell, ...]

    def at(self, batch: int | None, order: str, layer_start: int) -> Cell | None:
        """What was found at one place; None where nothing was."""
        place = (batch, order, layer_start)
        return next((one for one in self.cells if (one.batch, one.order, one.layer_start) == place), None)


def heat_maps(found: TaskRegimes, searches: Sequence[SearchView]) -> list[HeatMap]:
    """The grids of one task: those of at least two batches, orders or layers by at least two of another."""
    by_label = {search.label: search for search in reversed(searches)}
    groups: dict[str, list[RegimeRow]] = {}
    for row in found.rows:
        if not row.replay_of:
            groups.setdefault(digest({"family": row.family, "where": _rest(row)}), []).append(row)
    maps = [_heat_map(found.task, rows, by_label) for rows in groups.values()]
    return [one for one in maps if sum(len(axis) > 1 for axis in (one.batches, one.orders, one.layers)) > 1]


def _heat_map(task: str, rows: Sequence[RegimeRow], searches: dict[str, SearchView]) -> HeatMap:
    cells = tuple(_cell(row, searches[row.search]) for row in rows)
    return HeatMap(
        task=task,
        variants=tuple(dict.fromkeys(row.variant for row in rows)),
        where=_rest(rows[0]),
        batches=tuple(sorted({cell.batch for cell in cells}, key=lambda batch: batch or 0)),
        orders=tuple(dict.fromkeys(cell.order for cell in cells)),
        layers=tuple(sorted({cell.layer_start for cell in cells})),
        cells=cells,
    )


def _cell(row: RegimeRow, search: SearchView) -> Cell:
    return Cell(
        batch=search.batch,
        order=str(search.arguments.get("order", "")),
        layer_start=row.layer_start,
        variant=row.variant,
        search=row.search,
        stage=row.stage,
        mean=row.mean,
        low=row.low,
        high=row.high,
        seeds=row.seeds,
    )


def _rest(row: RegimeRow) -> dict[str, Any]:
    return {name: value for name, value in row.where.items() if name not in ("batch", "order")}
