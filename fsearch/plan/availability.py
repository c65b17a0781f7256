"""What a valid plan may ask for that this release cannot do yet: named, never ignored."""

from __future__ import annotations

from collections.abc import Collection

from fsearch.plan.parse import Plan
from fsearch.plan.schema import Largest
from fsearch.plan.variant import Variant
from fsearch.plan.yaml_source import Path, Problem


def not_available(plan: Plan, announced_tasks: Collection[str]) -> list[Problem]:
    """Everything in the plan that is specified but not built, in the order of the text."""
    source = plan.source
    problems: list[Problem] = []

    def note(path: Path, what: str) -> None:
        problems.append(source.problem(path, f"not available in this release: {what}"))

    if plan.model.checkpoint is not None:
        note(("model", "checkpoint"), "training from a checkpoint; use `init`")

    def written(*paths: Path) -> Path:
        """The first of the places where a value may be written that has one; the last is taken as given."""
        return next((path for path in paths[:-1] if path in source.values), paths[-1])

    for index, entry in enumerate(plan.entries):
        path: Path = ("tasks", index)
        if entry.task in announced_tasks:
            note((*path, "task"), f"the task {entry.task}")
        for at, batch in enumerate(entry.batch):
            if isinstance(batch, Largest):
                where = written((*path, "batch", at), (*path, "batch"))
                note(where, "finding the largest batch; give a number")
        if entry.recipe.precision != "fp32":
            where = written((*path, "train", "precision"), ("train", "precision"))
            note(where, f"precision {entry.recipe.precision}; use fp32")
        at_variants = written((*path, "variants"), ("variants",))
        for number, variant in enumerate(entry.variants):
            reason = _variant_reason(variant)
            if reason:
                note((*at_variants, number), reason)
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.place.line, problem.place.column))


def _variant_reason(variant: Variant) -> str | None:
    if variant.gate == "input":
        return f"the input-adaptive gate of {variant.name}"
    if variant.compat is not None:
        return f"compat: {variant.compat} of {variant.name}"
    return None
