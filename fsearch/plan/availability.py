"""What a valid plan may ask for that this release cannot do yet: named, never ignored."""

from __future__ import annotations

from fsearch.plan.parse import Plan
from fsearch.plan.schema import Largest
from fsearch.plan.yaml_source import Path, Problem


def not_available(plan: Plan) -> list[Problem]:
    """Everything in the plan that is specified but not built, in the order of the text."""
    source = plan.source
    problems: list[Problem] = []

    def note(path: Path, what: str) -> None:
        problems.append(source.problem(path, f"not available in this release: {what}"))

    def written(*paths: Path) -> Path:
        """The first of the places where a value may be written that has one; the last is taken as given."""
        return next((path for path in paths[:-1] if path in source.values), paths[-1])

    for index, entry in enumerate(plan.entries):
        path: Path = ("tasks", index)
        for at, batch in enumerate(entry.batch):
            if isinstance(batch, Largest):
                where = written((*path, "batch", at), (*path, "batch"))
                note(where, "finding the largest batch; give a number")
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.place.line, problem.place.column))
