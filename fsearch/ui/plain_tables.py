"""The tables of a report as plain cells, which Markdown and the page lay out each in its way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fsearch.plan import BASELINE
from fsearch.search.regimes import BestAgainstBest, TaskRegimes
from fsearch.ui.costs import Cost
from fsearch.ui.findings import Failure
from fsearch.ui.nodes import NodeUse
from fsearch.ui.view import PlanView, SearchView, VariantView
from fsearch.ui.words import (
    bounds,
    duration,
    energy,
    interval,
    margin,
    p_value,
    percent,
    place,
    points,
    verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first cell of a row names it; `right` has the columns of figures."""

    caption: str
    head: tuple[str, ...]
    right: frozenset[int]
    rows: tuple[tuple[str, ...], ...]


def overview(views: Sequence[PlanView]) -> Table:
    """Every search of every plan in one row: the aggregate of a record."""
    several = len(views) > 1
    rows = []
    for view in views:
        for search in view.searches:
            best = search.best
            level = search.stages[-1].baseline_mean or search.stages[0].baseline_mean
            found = "failed" if search.failed else "nothing confirmed" if search.begun else "not begun"
            cells = [search.label, percent(level)]
            cells += [best.name, points(best.mean), interval(best)] if best else ["", "", ""]
            rows.append([*([view.name] if several else []), *cells, verdict(best) if best else found])
    head = ["search", BASELINE, "best variant", "d_acc, pp", "95 % interval", "verdict"]
    return _table(
        "Each search with its best confirmed variant", ["plan"] * several + head, rows, left={"best variant"}
    )


def variants(search: SearchView, at_least: float) -> Table:
    """Every variant of a search with all its figures."""
    screens = [stage.name for stage in search.stages[:-1]]
    head = ["variant", "verdict"]
    for stage in screens:
        head += [f"{stage}, pp", f"{stage} decision"]
    head += [f"{search.stages[-1].name}, pp", "95 % interval", "seeds", "p(>0)", f"p(>={margin(at_least)})"]
    head += ["loss, nats", "over questions, pp", "McNemar p", "drafts, unmatched", "why"]
    rows = [_variant(variant, len(screens)) for variant in search.variants]
    left = {*(f"{stage} decision" for stage in screens), "why"}
    return _table(f"{search.label}: variants", head, rows, left=left)


def _variant(variant: VariantView, screens: int) -> list[str]:
    cells = [variant.name, verdict(variant)]
    for at in range(screens):
        known = at < len(variant.screens) and not variant.same_as
        cells += [points(variant.screens[at].d_acc), variant.screens[at].decision] if known else ["", ""]
    if variant.differences and not variant.same_as:
        loss, found = variant.loss, variant.examples
        cells += [points(variant.mean), interval(variant), str(len(variant.differences))]
        cells += [_known(variant.p_better), _known(variant.p_at_least)]
        cells.append(f"{loss.mean:+.3f} [{loss.low:+.3f}, {loss.high:+.3f}]" if loss else "")
        cells.append(bounds(found.low, found.high) if found else "")
        cells.append(" ".join(p_value(test.p) for test in found.mcnemar) if found else "")
        cells.append("" if variant.drafts_delta is None else points(variant.drafts_delta))
    else:
        cells += [""] * 9
    return [*cells, "" if variant.same_as else variant.reason]


def _known(p: float | None) -> str:
    return "" if p is None else p_value(p)


def metrics(search: SearchView) -> Table | None:
    """The task's own metrics of every confirmed variant; None where there are none."""
    rows = [
        [variant.name, name, f"{found.baseline:.3f}", f"{found.variant:.3f}", f"{found.difference:+.3f}"]
        for variant in search.variants
        if not variant.same_as
        for name, found in variant.metrics.items()
    ]
    head = ["variant", "metric", BASELINE, "variant's", "difference"]
    return _table(f"{search.label}: metrics", head, rows, left={"metric"}) if rows else None


def regimes(found: TaskRegimes) -> Table:
    """Where effects hold: every variant of a task in every search."""
    rows = [
        [
            row.variant,
            place(row.where),
            points(row.mean),
            bounds(row.low, row.high) or f"{row.stage}, one seed",
            str(row.seeds),
            f"replay of {row.replay_of}" if row.replay_of else row.sign,
        ]
        for row in found.rows
    ]
    head = ["variant", "where", "d_acc, pp", "95 % interval", "seeds", "flip"]
    return _table(f"{found.task}: where it holds", head, rows, left={"where", "flip"})


def best_against_best(found: TaskRegimes) -> Table | None:
    """Each arm at its own best learning rate; None where none was swept."""
    rows = [
        [
            one.variant,
            place(one.where),
            f"{one.variant_lr:g}",
            f"{one.baseline_lr:g}",
            *(
                [points(one.mean), bounds(one.low, one.high), str(one.seeds)]
                if one.mean is not None
                else [""] * 3
            ),
            _remark(one),
        ]
        for one in found.best
    ]
    head = [
        "variant",
        "where",
        "its lr",
        f"lr of {BASELINE}",
        "d_acc, pp",
        "95 % interval",
        "seeds",
        "remark",
    ]
    return _table(f"{found.task}: best against best", head, rows, left={"where", "remark"}) if rows else None


def _remark(one: BestAgainstBest) -> str:
    if one.unknown:
        return f"not known, as {one.unknown}"
    return f"gains over a badly tuned {BASELINE} only" if one.only_where_the_baseline_is_bad else ""


def costs(found: Sequence[Cost]) -> Table:
    """Where time and energy went."""
    has_energy = any(cost.energy_mj is not None for cost in found)
    rows = []
    for cost in found:
        untimed = f", and {cost.untimed} of unknown time" if cost.untimed else ""
        row = [cost.outcome, cost.purpose, str(cost.tries), duration(cost.seconds) + untimed]
        row.append(duration(cost.idle_s) if cost.idle_s else "")
        rows.append([*row, *(["" if cost.energy_mj is None else energy(cost.energy_mj)] * has_energy)])
    head = ["outcome", "what for", "tries", "device time", "idle before"] + ["energy"] * has_energy
    return _table("Where time and energy went", head, rows, left={"what for"})


def nodes(found: Sequence[NodeUse]) -> Table:
    """What each node of a cluster has done."""
    rows = [
        [
            use.node,
            use.device,
            str(use.tries),
            str(use.lost) if use.lost else "",
            duration(use.seconds),
            "" if use.energy_mj is None else energy(use.energy_mj),
        ]
        for use in found
    ]
    head = ["node", "device", "tries", "lost", "device time", "energy"]
    return _table("Nodes", head, rows, left={"device"})


def failures(found: Iterable[Failure]) -> Table:
    """Every attempt that closed without a result, with its reason."""
    rows = [
        [
            one.search or one.stage,
            one.stage,
            one.variant,
            str(one.seed) if one.variant else "",
            str(one.tries),
            one.outcome,
            " ".join(one.reason.split()),
        ]
        for one in found
    ]
    head = ["search", "stage", "variant", "seed", "tries", "outcome", "why"]
    return _table("Failures", head, rows, left={"stage", "variant", "outcome", "why"})


def _table(caption: str, head: list[str], rows: list[list[str]], *, left: set[str]) -> Table:
    """A table without the columns that nobody fills; all but the first, and those named, are of figures."""
    kept = [at for at in range(len(head)) if at == 0 or not rows or any(row[at] for row in rows)]
    left = left | {"search", "95 % interval", "verdict"}
    return Table(
        caption=caption,
        head=tuple(head[at] for at in kept),
        right=frozenset(number for number, at in enumerate(kept) if at and head[at] not in left),
        rows=tuple(tuple(row[at] for at in kept) for row in rows),
    )
