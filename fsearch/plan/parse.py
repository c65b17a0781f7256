"""A plan's text to a typed plan, or to a list of problems that each name a place and a remedy.

All problems of a text are collected, so that one look mends them all. The tasks' argument schemas
come from the caller: this room knows no task.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fsearch.plan import metrics
from fsearch.plan.schema import (
    Batch,
    Claim,
    Evaluate,
    Limits,
    Model,
    PlanFields,
    Recipe,
    Screen,
    Stage,
    TaskOptions,
    TopUp,
)
from fsearch.plan.variant import Variant
from fsearch.plan.yaml_source import Path, PlanError, Problem, Source, read

T = TypeVar("T", bound=BaseModel)

HUB = "hf://"
"""How a checkpoint begins that is downloaded."""

DEFAULT_CONFIRM_SEEDS = 5
MIN_CONFIRM_SEEDS = 3
TOP_UP_ALPHA = 0.05
"""The one alpha for which the levels of a top-up are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of `tasks` with everything it inherits filled in."""

    task: str
    arguments: dict[str, Any]
    download: str | None  # what the arguments need from a network, for people; None for nothing
    recipe: Recipe
    batch: tuple[Batch, ...]
    stages: tuple[Stage, ...]
    screen: Screen | None
    variants: tuple[Variant, ...]
    evaluate: Evaluate  # code_exec is off where the task has no programs to run
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """A valid plan. `id` is a hash of its meaning: comments, layout and `notify` do not change it."""

    id: str
    name: str
    seed: int
    model: Model
    checkpoint: str | None  # what the model is read from: an absolute path or an hf:// address
    claim: Claim
    limits: Limits
    notify: tuple[str, ...] | None  # a program and its arguments
    entries: tuple[Entry, ...]
    source: Source
    text: str

    @property
    def folder(self) -> str:
        """Where the plan's file lies, and what its paths are relative to."""
        return os.path.dirname(os.path.abspath(self.source.file))

    @property
    def tops_up(self) -> bool:
        """Whether what is undecided after the first seeds gets more: so in all its searches, or in none."""
        return any(isinstance(entry.stages[-1].seeds, TopUp) for entry in self.entries)


def parse(text: str, task_schemas: Mapping[str, type[BaseModel]], file: str = "plan") -> Plan:
    """The plan that `text` says; `task_schemas` gives each task's argument model by name.

    Raises:
        PlanError: with every problem found, in the order of the text.
    """
    source = read(text, file)
    if not isinstance(source.data, dict):
        what = type(source.data).__name__
        raise PlanError([source.problem((), f"a plan is a mapping such as `name: my plan`, not a {what}")])
    problems: list[Problem] = []
    fields = _validate(PlanFields, source.data, (), source, problems)
    entries = []
    raw_tasks = source.data.get("tasks")
    for index, raw in enumerate(raw_tasks if isinstance(raw_tasks, list) else []):
        if isinstance(raw, dict):
            entry = _entry(raw, ("tasks", index), fields, task_schemas, source, problems)
            if entry:
                entries.append(entry)
    if fields and not problems:
        _check_variant_names(fields.variants, ("variants",), source, problems)
        _check_stages(fields.stages, fields.screen, (), source, problems)
        _check_repeats(entries, source, problems)
        _check_top_up(entries, fields.claim, source, problems)
    if problems or not fields:
        problems.sort(key=lambda problem: (problem.place.line, problem.place.column))
        raise PlanError(list(dict.fromkeys(problems)))
    checkpoint = _resolved(fields.model.checkpoint, file)
    return Plan(
        id=_plan_id(fields, checkpoint, entries),
        name=fields.name,
        seed=fields.seed,
        model=fields.model,
        checkpoint=checkpoint,
        claim=fields.claim,
        limits=fields.limits,
        notify=fields.notify,
        entries=tuple(entries),
        source=source,
        text=text,
    )


def _entry(
    raw: dict[str, Any],
    path: Path,
    fields: PlanFields | None,
    task_schemas: Mapping[str, type[BaseModel]],
    source: Source,
    problems: list[Problem],
) -> Entry | None:
    before = len(problems)
    own = {key: value for key, value in raw.items() if key in TaskOptions.model_fields}
    rest = {key: value for key, value in raw.items() if key not in TaskOptions.model_fields}
    options = _validate(TaskOptions, own, path, source, problems)
    task = raw.get("task")
    schema = task_schemas.get(task) if isinstance(task, str) else None
    arguments: BaseModel | None = None
    if schema is not None:
        known = [*schema.model_fields, *TaskOptions.model_fields]
        arguments = _validate(schema, rest, path, source, problems, known)
    elif isinstance(task, str):
        message = f"there is no task {task!r}{_suggest(task, list(task_schemas))}"
        problems.append(source.problem((*path, "task"), message))
    recipe = None
    if fields and options:
        merged = {**fields.train.model_dump(), **options.train}
        recipe = _validate(Recipe, merged, (*path, "train"), source, problems)
    if len(problems) > before or not (fields and options and arguments and recipe):
        return None
    stages = options.stages or fields.stages
    screen = options.screen or (fields.screen if options.stages is None or len(stages) > 1 else None)
    variants = options.variants or fields.variants
    if options.variants:
        _check_variant_names(variants, (*path, "variants"), source, problems)
    if options.stages or options.screen:
        _check_stages(stages, screen, path, source, problems)
    evaluate = metrics.evaluated(arguments, options.evaluate or fields.evaluate)
    metric = options.metric or fields.metric
    looked = screen is not None and len(stages) > 1 and screen.futility_look is not None
    for field, message in metrics.faults(options.task, arguments, evaluate, metric, stages, looked):
        place = (*path, *field) if getattr(options, str(field[0])) is not None else field
        problems.append(source.problem(place, message))
    seeds = stages[-1].seeds or DEFAULT_CONFIRM_SEEDS
    return Entry(
        task=options.task,
        arguments=arguments.model_dump(mode="json"),
        download=getattr(arguments, "download", None),
        recipe=recipe,
        batch=options.batch,
        stages=(*stages[:-1], stages[-1].model_copy(update={"seeds": seeds})),
        screen=(screen or Screen()) if len(stages) > 1 else None,
        variants=variants,
        evaluate=evaluate,
        metric=metric,
    )


def _check_variant_names(
    variants: tuple[Variant, ...], path: Path, source: Source, problems: list[Problem]
) -> None:
    seen: dict[str, int] = {}
    for index, variant in enumerate(variants):
        if variant.name in seen:
            first = source.place((*path, seen[variant.name])).line
            message = f"the variant {variant.name!r} stands here twice (first on line {first}); keep one"
            problems.append(source.problem((*path, index), message))
        seen.setdefault(variant.name, index)


def _check_stages(
    stages: tuple[Stage, ...], screen: Screen | None, path: Path, source: Source, problems: list[Problem]
) -> None:
    at: Path = (*path, "stages")

    def complain(where: Path, message: str) -> None:
        problems.append(source.problem(where, message))

    names = [stage.name for stage in stages]
    for index, stage in enumerate(stages):
        if stage.name in names[:index]:
            complain((*at, index, "name"), f"two stages are called {stage.name!r}; give each its own name")
        if index < len(stages) - 1 and (stage.seeds or 1) != 1:
            message = f"a screening stage has one seed, not {stage.first_seeds}; only the last stage confirms"
            complain((*at, index, "seeds"), message)
    confirm_seeds = stages[-1].seeds or DEFAULT_CONFIRM_SEEDS
    if isinstance(confirm_seeds, int) and confirm_seeds < MIN_CONFIRM_SEEDS:
        message = f"a verdict needs at least {MIN_CONFIRM_SEEDS} seeds, not {confirm_seeds}"
        complain((*at, len(stages) - 1, "seeds"), message)
    if screen and screen.futility_look is not None and stages[0].steps < 2:
        message = "a stage that is looked into (screen.futility_look) needs at least 2 steps"
        complain((*at, 0, "steps"), message)
    if screen and len(stages) == 1:
        complain(
            (*path, "screen"),
            "a plan with one stage has nothing to screen: leave `screen` out or add a stage",
        )


def _check_top_up(entries: list[Entry], claim: Claim, source: Source, problems: list[Problem]) -> None:
    """The two levels of a top-up keep one error rate, that of a plan in which every task tops up."""
    tops_up = [isinstance(entry.stages[-1].seeds, TopUp) for entry in entries]
    if any(tops_up) and claim.alpha != TOP_UP_ALPHA:
        message = (
            f"the two levels of seeds {{first: 3, then: 5}} are those of alpha {TOP_UP_ALPHA:g}; leave alpha "
            f"{claim.alpha:g} out, or give a number of seeds"
        )
        problems.append(source.problem(("claim", "alpha"), message))
    if any(tops_up) and not all(tops_up):
        index = tops_up.index(False)
        message = (
            "this task has a fixed number of seeds and another task of the plan tops up; the correction is "
            "over all of them: give all tasks {first: 3, then: 5}, or none"
        )
        problems.append(source.problem(("tasks", index), message))


def _check_repeats(entries: list[Entry], source: Source, problems: list[Problem]) -> None:
    """Two entries may not ask for one search: the second would find its work done and say nothing."""
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        shared = {
            "task": entry.task,
            "arguments": entry.arguments,
            "recipe": entry.recipe.model_dump(mode="json", exclude={"lr"}),
            "steps": [stage.steps for stage in entry.stages],
        }
        for batch in entry.batch:
            size = batch if isinstance(batch, int) else batch.model_dump()
            for lr in entry.recipe.lr:
                key = json.dumps([shared, size, lr], sort_keys=True)
                if key in seen:
                    line = source.place(("tasks", seen[key])).line
                    what = "this entry twice" if seen[key] == index else f"the same search as line {line}"
                    message = f"{entry.task} at batch {size} and lr {lr:g} asks for {what}; keep one"
                    problems.append(source.problem(("tasks", index), message))
                seen.setdefault(key, index)


def _resolved(checkpoint: str | None, file: str) -> str | None:
    """A checkpoint as nobody can mistake it: a path is relative to the plan's file."""
    if checkpoint is None or checkpoint.startswith(HUB):
        return checkpoint
    return os.path.abspath(os.path.join(os.path.dirname(file), checkpoint))


def _plan_id(fields: PlanFields, checkpoint: str | None, entries: list[Entry]) -> str:
    meaning: dict[str, Any] = {
        "plan": fields.model_dump(mode="json", exclude={"notify"}),
        "entries": [entry.arguments for entry in entries],
    }
    meaning["plan"]["model"]["checkpoint"] = checkpoint  # one relative path in two folders is two files
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _validate(
    model: type[T],
    data: Any,
    path: Path,
    source: Source,
    problems: list[Problem],
    known: list[str] | None = None,
) -> T | None:
    try:
        # Paths among the arguments of a task are relative to the plan.
        return model.model_validate(data, context={"folder": os.path.dirname(source.file)})
    except ValidationError as error:
        for item in error.errors():
            problems.append(_problem(item, data, path, source, known or _fields_at(model, item["loc"])))
        return None


def _problem(item: Any, data: Any, path: Path, source: Source, known: list[str]) -> Problem:
    location = _known_part(tuple(item["loc"]), data)
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        name = str(item["loc"][-1])
        return source.problem(
            (*path, *location), f"there is no field {name!r}{_suggest(name, known)}", key=True
        )
    if kind == "missing":
        place = source.place((*path, *location))
        field = item["loc"][-1]
        what = f"the field {field!r}" if isinstance(field, str) else f"value {field + 1} of the list"
        owner = source.problem((*path, *location), "").field
        return Problem(source.file, place, owner, f"{what} is missing; add it")
    if kind == "value_error":
        message = str(item["ctx"]["error"])
    elif kind == "less_than" and item["ctx"].get("lt") == 0.5 and isinstance(value, int | float):
        message = (
            f"{value:g} would be {value * 100:g} percentage points; thresholds are fractions: "
            f"did you mean {value / 100:g} ({value:g} pp)?"
        )
    else:
        wanted = item["msg"][0].lower() + item["msg"][1:]
        wanted = wanted.replace("tuple", "list").replace("dictionary", "mapping")
        message = wanted if kind in ("too_short", "too_long") else f"{wanted}, not {_shown(value)}"
        if kind == "literal_error" and isinstance(value, str):
            message += _suggest(value, [str(choice) for choice in _choices(item["ctx"]["expected"])], "")
    return source.problem((*path, *location), message)


def _known_part(location: Path, data: Any) -> Path:
    """The part of a pydantic location that stands in the data: union and validator steps do not."""
    result: Path = ()
    for part in location:
        if part in _steps_into(data):
            data = data[part]
            result = (*result, part)
    return result


def _steps_into(data: Any) -> Collection[Any]:
    """The keys of a mapping, the indices of a list, nothing of anything else."""
    if isinstance(data, dict):
        return data.keys()
    return range(len(data)) if isinstance(data, list) else ()


def _fields_at(model: type[BaseModel], location: Any) -> list[str]:
    """The field names of the (nested) model in which `location` names an unknown field."""
    for part in location[:-1]:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field:
            inner = _model_in(field.annotation)
            if inner:
                model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found:
            return found
    return None


def _choices(expected: str) -> list[str]:
    return [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]


def _suggest(name: str, known: list[str], otherwise: str = "; known are ") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"{otherwise}{', '.join(known)}" if otherwise else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
