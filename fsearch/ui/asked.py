"""The views that a reading command was asked for: one plan's, or those of every plan of the record."""

from __future__ import annotations

from pathlib import Path

from fsearch.store import PlanRecord
from fsearch.ui.errors import STATE, UserError
from fsearch.ui.plans import chosen, recorded
from fsearch.ui.state import looking, shown
from fsearch.ui.view import PlanView, Snapshot


def views_of(
    name: str | None, state: Path, *, examples: bool = False
) -> tuple[list[PlanView], list[PlanRecord]]:
    """The views of the plan `name`, or of all, in the order in which they were first asked; and all records.

    `examples`: also what single examples say of each confirmed variant, which takes a moment.

    Raises UserError where there is nothing to show.
    """
    with looking(state) as reader:
        records = reader.plans()
        scores_of = reader.example_values if examples else None
        if name is not None:
            plan = chosen(name, records)
            snapshot = Snapshot(reader, [plan])
            if not snapshot.has(plan):
                nothing = f"Nothing of the plan {plan.name!r} is recorded in {shown(state)}."
                raise UserError(f"{nothing} `fsearch run {name}` begins it.")
            return [snapshot.view(plan, scores_of)], records
        plans = [known for record in records if (known := recorded(record)) is not None]
        if not plans:
            nothing = f"No plan is recorded in {shown(state)}."
            raise UserError(f"{nothing} `fsearch run plans/demo.yaml` begins one.", STATE)
        snapshot = Snapshot(reader, plans)
        return [snapshot.view(known, scores_of) for known in plans], records
