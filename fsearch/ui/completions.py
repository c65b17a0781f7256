"""What a plan's completions cost, and whether what they need is to be had here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from statistics import fmean

from fsearch.plan import SCORE, Plan, Search, decidable
from fsearch.search.rows import Attempt
from fsearch.tasks import create
from fsearch.tasks.code_exec import self_test
from fsearch.tasks.task import CodeExec
from fsearch.ui.counts import at_most
from fsearch.ui.errors import UserError
from fsearch.ui.words import duration

UNSAFE = "code_exec: unsafe runs what a model wrote with this user's rights: files, network and processes"
"""What to say of a plan that asks for it."""

_fault = cache(self_test)
"""A level is tried once a process."""


def require_what_is_decided_on(plan: Plan) -> None:
    """Raises UserError where a metric that the plan decides on needs programs to be run, and none can be."""
    problems = []
    for index, entry in enumerate(plan.entries):
        arguments = create(entry.task, entry.arguments).arguments
        unrun = entry.evaluate.model_copy(update={"code_exec": "off"})
        level = entry.evaluate.code_exec
        if level == "off" or entry.metric in decidable(arguments, unrun):
            continue
        if reason := _fault(level):
            needs = f"{entry.metric} needs programs to be run"
            why = f"{needs}, and code_exec: {level} does not work here: {reason}"
            own = ("tasks", index, "metric")
            problems.append(str(plan.source.problem(own if own in plan.source.keys else ("metric",), why)))
    if problems:
        raise UserError("\n".join(problems))


def cost(search: Search, recorded: Sequence[Attempt]) -> Iterator[str]:
    """What the completions of a search come to, in sentences; none where none are generated.

    `recorded` are rows of earlier runs, for how long the same completions took.
    """
    asked = search.completions
    if search.metric != SCORE:
        yield f"decided on {search.metric}"
    if not asked:
        return
    n_val = int(search.arguments["n_val"])
    of_a_half = n_val if search.screen is None else (n_val + 1) // 2  # about: documents are not cut in two
    examples = min(of_a_half, asked["examples"] or of_a_half)
    passes = [
        (2 if search.screen and stage is search.stages[-1] else 1)
        + sum(step < stage.steps for step in search.completions_at)
        for stage in search.stages
    ]
    all_passes = sum(size * count for size, count in zip(at_most(search), passes, strict=True))
    total = all_passes * examples * asked["samples"]
    samples = f", {asked['samples']} samples each" if asked["samples"] > 1 else ""
    drawn = f" at temperature {asked['temperature']:g}" if asked["temperature"] else ""
    yield (
        f"completions of {examples} examples a half{samples}, up to {asked['max_tokens']} tokens{drawn}: at "
        f"most {total} in all, {total * asked['max_tokens']:,} tokens"
    )
    took = [
        row.seconds["generate"]
        for row in recorded
        if row.outcome == "completed"
        and row.spec.role in ("screen", "confirm")
        and (row.spec.task, row.spec.completions) == (search.task, asked)
        and "generate" in row.seconds
    ]
    if took:
        yield f"they took {duration(fmean(took))} an attempt in {len(took)} recorded ones"


def sandbox(search: Search) -> str:
    """Why programs cannot be run as a search asks; empty where they can, or none are."""
    level: CodeExec = search.completions.get("code_exec", "off")
    if level == "off" or not (reason := _fault(level)):
        return ""
    return f"code_exec: {level} does not work here, and what needs it will be unavailable: {reason}"
