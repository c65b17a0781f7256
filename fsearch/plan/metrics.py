"""Which metric a plan may decide on, and what has to be generated and run for it.

A task says through its arguments which metrics it has; see `fsearch.tasks.task.Arguments`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from pydantic import BaseModel

from fsearch.plan.schema import SCORE, Evaluate, Stage
from fsearch.plan.yaml_source import Path


@runtime_checkable
class Judged(Protocol):
    """Arguments of a task that has metrics beside the score."""

    def metrics(self, samples: int, *, executes: bool) -> Sequence[str]:
        """The names, where `samples` completions of an example are generated (0: none), and run if programs.

        None can be generated where `samples` adds nothing.
        """


def decidable(arguments: BaseModel, evaluate: Evaluate) -> list[str]:
    """The metrics that a plan may decide on with these evaluations."""
    samples = evaluate.generate.samples if evaluate.generate else 0
    own = arguments.metrics(samples, executes=evaluate.code_exec != "off") if _judged(arguments) else ()
    return [SCORE, *own]


def evaluated(arguments: BaseModel, evaluate: Evaluate) -> Evaluate:
    """The evaluations of a task: nothing is run of a task without programs."""
    unrun = evaluate.model_copy(update={"code_exec": "off"})
    return evaluate if decidable(arguments, evaluate) != decidable(arguments, unrun) else unrun


def faults(
    task: str, arguments: BaseModel, evaluate: Evaluate, metric: str, stages: Sequence[Stage], looked: bool
) -> Iterator[tuple[Path, str]]:
    """What is wrong with a task's evaluations and metric: the field, and a sentence."""
    generate = evaluate.generate
    if generate is not None:
        bare = evaluate.model_copy(update={"generate": None, "code_exec": "off"})
        if decidable(arguments, evaluate) == decidable(arguments, bare):
            message = f"{task} has no answers that follow a prompt; give it an `evaluate` without generate"
            yield ("evaluate", "generate"), message
        longest = max(stage.steps for stage in stages)
        late = [step for step in generate.at if step >= longest]
        if late:
            message = f"step {late[0]} is not before the last step of any stage ({longest} at most)"
            yield ("evaluate", "generate", "at"), f"{message}; the last step has its completions in any case"
    if metric not in decidable(arguments, evaluate):
        yield ("metric",), _unknown(task, arguments, evaluate, metric)
    elif looked and metric != SCORE:
        yield (
            ("metric",),
            f"screen.futility_look stops variants by their score, but the plan decides on {metric}; leave "
            "the look out",
        )


def _unknown(task: str, arguments: BaseModel, evaluate: Evaluate, metric: str) -> str:
    known = decidable(arguments, evaluate)
    samples = evaluate.generate.samples if evaluate.generate else 1
    if _judged(arguments):
        if metric in arguments.metrics(samples, executes=False) and evaluate.generate is None:
            return f"{metric} judges completions; add evaluate: {{generate: {{max_tokens: ...}}}}"
        if metric in arguments.metrics(samples, executes=True):
            generated = "" if evaluate.generate else "generate: {max_tokens: ...}, "
            return f"{metric} runs programs; add evaluate: {{{generated}code_exec: bwrap}}"
    near = difflib.get_close_matches(metric, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"{task} has no metric {metric!r} with these evaluations; {hint}"


def _judged(arguments: BaseModel) -> TypeGuard[Judged]:
    return isinstance(arguments, Judged)
