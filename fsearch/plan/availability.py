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
    where: Path
    for index, entry in enumerate(plan.entries):
        path: Path = ("tasks", index)
        if entry.task in announced_tasks:
            note((*path, "task"), f"the task {entry.task}")
        for at, batch in enumerate(entry.batch):
            if isinstance(batch, Largest):
                where = (*path, "batch", at) if (*path, "batch", at) in source.values else (*path, "batch")
                note(where, "finding the largest batch; give a number")
        if entry.recipe.precision != "fp32":
            own_precision: Path = (*path, "train", "precision")
            at_precision = own_precision if own_precision in source.values else ("train", "precision")
            note(at_precision, f"precision {entry.recipe.precision}; use fp32")
        own: Path = (*path, "variants")
        at_variants: Path = own if own in source.values else ("variants",)
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
