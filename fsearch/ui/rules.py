"""Which rules recorded rows are replayed under: one threshold, a plan's, or the default of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from fsearch.plan import Plan, Screen, Search, expand
from fsearch.search.rows import AttemptSpec
from fsearch.ui.errors import UserError
from fsearch.ui.plans import packaged_folder, read
from fsearch.ui.records import Records
from fsearch.ui.words import margin, names


@dataclass(frozen=True, slots=True)
class Rules:
    """What is applied. `plans` has what is known of the plans that the rows name, by their ids."""

    threshold: float | None  # for everything, as a fraction
    plans: dict[str, PlanRules]  # "" is the id in the drafts' records

    def planned(self, spec: AttemptSpec) -> Search | None:
        """What a plan says of an attempt's search; None where nothing is known."""
        plan = self.plans.get(spec.plan)
        return plan.searches.get(spec.search) if plan else None

    def prune_below(self, spec: AttemptSpec) -> float:
        """The threshold of an attempt's search. Raises UserError where its plan does not tell."""
        if self.threshold is not None:
            return self.threshold
        plan, search = self.plans.get(spec.plan), self.planned(spec)
        if plan is None:
            return Screen().prune_below
        meant = [search] if search else list(plan.searches.values())
        thresholds = sorted({one.screen.prune_below for one in meant if one.screen})
        if len(thresholds) == 1:
            return thresholds[0]
        what = "screens nothing"
        if thresholds:
            many = " or ".join(map(margin, thresholds))
            what = f"has no search {spec.search!r}, and its own prune below {many}"
        raise UserError(f"The plan {plan.name!r} {what}: give --prune-below.")

    @property
    def origin(self) -> str:
        """Where the threshold is from."""
        if self.threshold is not None:
            return "--prune-below"
        named = sorted({f"{plan.name!r}" for plan in self.plans.values()})
        return f"the plan {names(named)}" if named else "the default of a plan"


@dataclass(frozen=True, slots=True)
class PlanRules:
    """A plan's searches by label."""

    name: str
    searches: dict[str, Search]

    @classmethod
    def of(cls, plan: Plan) -> PlanRules:
        return cls(plan.name, {search.label: search for search in expand(plan)})


def rules_for(records: Records, threshold: float | None, name: str | None) -> Rules:
    """The rules of the plan file `name`, else of the packaged plans that the rows name.

    Raises UserError where `name` is not a valid plan.
    """
    given = PlanRules.of(read(name).plan) if name else None
    recorded = {row.attempt.spec.plan: row.plan_name for row in records.rows}
    found = {identity: given or _packaged(plan_name) for identity, plan_name in recorded.items()}
    return Rules(threshold, {identity: plan for identity, plan in found.items() if plan})


def _packaged(name: str) -> PlanRules | None:
    """The packaged plan of this name; None where there is none that can be read."""
    folder = packaged_folder()
    for path in sorted(folder.rglob("*.yaml")) if folder and name else ():
        if name in path.read_text(encoding="utf-8"):
            try:
                plan = read(str(path)).plan
            except UserError:
                continue
            if plan.name == name:
                return PlanRules.of(plan)
    return None
