"""Everything that a report of one plan shows: one object, from which page, Markdown and JSON are all made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fsearch.store import Reader
from fsearch.ui.claims import TaskClaims, task_claims
from fsearch.ui.costs import Cost, costs_of
from fsearch.ui.curves import Curve, curves_of
from fsearch.ui.heat_map import HeatMap, heat_maps
from fsearch.ui.rows import Row
from fsearch.ui.view import PlanView

_OF_PLAN = (
    "id",
    "name",
    "path",
    "at_least",
    "alpha",
    "finished",
    "promoted",
    "tops_up",
    "superseded",
    "apart",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that closed without a result."""

    id: str
    search: str
    stage: str
    variant: str
    seed: int
    tries: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """A plan's view and what is read beside it."""

    view: PlanView
    claims: tuple[TaskClaims, ...]
    curves: tuple[Curve, ...]
    heat_maps: tuple[HeatMap, ...]
    costs: tuple[Cost, ...]
    failures: tuple[Failure, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys of one plan in `report --json` (docs/report.md)."""
        return {
            **{name: getattr(self.view, name) for name in _OF_PLAN},
            "searches": [asdict(search) for search in self.view.searches],
            "regimes": [asdict(task) for task in self.view.regimes],
            "nodes": [asdict(use) for use in self.view.nodes],
            **{
                name: [asdict(one) for one in getattr(self, name)]
                for name in ("claims", "curves", "heat_maps", "costs", "failures")
            },
        }


def findings_of(view: PlanView, reader: Reader) -> Findings:
    """Read the curves, and put all else together from the view."""
    return Findings(
        view=view,
        claims=tuple(task_claims(view)),
        curves=tuple(curves_of(view.rows, reader.evaluations)),
        heat_maps=tuple(one for task in view.regimes for one in heat_maps(task, view.searches)),
        costs=tuple(costs_of(view.rows)),
        failures=tuple(_failure(row) for row in view.failures),
    )


def _failure(row: Row) -> Failure:
    spec = row.attempt.spec
    return Failure(
        id=spec.id,
        search=row.search,
        stage=row.stage,
        variant=row.variant,
        seed=spec.seed,
        tries=len(row.tries),
        outcome=row.attempt.outcome or "",
        reason=row.attempt.reason,
    )
