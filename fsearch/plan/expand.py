"""A plan to its searches: one for every task entry, batch and learning rate, in the plan's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from fsearch.plan.parse import Plan
from fsearch.plan.schema import Evaluate, Largest, Screen, Stage
from fsearch.plan.variant import Variant


class InspectedModel(Protocol):
    """What is known of a checkpoint whose file was looked into."""

    @property
    def sha256(self) -> str: ...

    @property
    def n_layer(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """One task with its arguments and recipe at one batch: what is compared is compared inside it.

    A key of caches by its identity: expanding a plan again gives the same searches.
    """

    plan: str
    index: int
    label: str  # the task and what tells this search from its siblings
    task: str
    arguments: dict[str, Any]
    download: str | None  # what its data need from a network, for people; None for nothing
    model: dict[str, Any]  # {"init": ...}, or {"checkpoint": ...}: its SHA-256, before inspection its place
    n_layer: int | None  # None while the checkpoint is not inspected
    recipe: dict[str, Any]  # with one learning rate
    batch: int | Largest
    stages: tuple[Stage, ...]
    screen: Screen | None
    variants: tuple[Variant, ...]
    every: int | None  # steps between curve evaluations
    master_seed: int
    entry: int  # index in the plan's `tasks`
    memory_mib: int | None  # what an attempt may take; None: what the machine has
    metric: str  # what its decisions are made on
    completions: dict[str, Any]  # how they are generated after the last step; empty: none are
    completions_at: tuple[int, ...]  # the further steps after which they are

    @property
    def layers(self) -> int:
        """Layers of the model. Raises ValueError while its checkpoint is not inspected."""
        if self.n_layer is None:
            raise ValueError(f"{self.label}: the checkpoint {self.model['checkpoint']} is not inspected yet")
        return self.n_layer

    @property
    def place(self) -> dict[str, Any]:
        """By name, everything that may tell a search from its siblings."""
        batch: int | str = self.batch if isinstance(self.batch, int) else "largest"
        if isinstance(self.batch, Largest) and self.batch.at_most is not None:
            batch = f"largest<={self.batch.at_most}"
        steps = "+".join(str(stage.steps) for stage in self.stages)
        return {**self.arguments, "batch": batch, **self.recipe, "steps": steps}


def expand(plan: Plan, models: Mapping[str, InspectedModel] | None = None) -> tuple[Search, ...]:
    """The searches of a plan, in the order in which they run; `models` are the inspected checkpoints."""
    known = (models or {}).get(plan.checkpoint or "")
    return _expand(plan, None, None) if known is None else _expand(plan, known.sha256, known.n_layer)


@lru_cache(maxsize=64)
def _expand(plan: Plan, sha256: str | None, layers: int | None) -> tuple[Search, ...]:
    """`sha256` and `layers` of the plan's checkpoint; None while it is not inspected, or if it has none."""
    model, n_layer = _model(plan, sha256, layers)
    searches: list[Search] = []
    for number, entry in enumerate(plan.entries):
        for batch in entry.batch:
            for lr in entry.recipe.lr:
                searches.append(
                    Search(
                        plan=plan.id,
                        index=len(searches),
                        label="",
                        task=entry.task,
                        arguments=entry.arguments,
                        download=entry.download,
                        model=model,
                        n_layer=n_layer,
                        recipe={**entry.recipe.model_dump(mode="json"), "lr": lr},
                        batch=batch,
                        stages=entry.stages,
                        screen=entry.screen,
                        variants=entry.variants,
                        every=entry.evaluate.every,
                        master_seed=plan.seed,
                        entry=number,
                        memory_mib=plan.limits.memory_mib,
                        metric=entry.metric,
                        completions=_completions(entry.evaluate),
                        completions_at=entry.evaluate.generate.at if entry.evaluate.generate else (),
                    )
                )
    places: dict[str, list[dict[str, Any]]] = {}
    for search in searches:
        places.setdefault(search.task, []).append(search.place)
    return tuple(replace(search, label=_label(search, places[search.task])) for search in searches)


def _model(plan: Plan, sha256: str | None, layers: int | None) -> tuple[dict[str, Any], int | None]:
    """The model as it stands in ids, and its layers as far as they are known."""
    if plan.model.init is not None:
        return plan.model.model_dump(mode="json", exclude_none=True), plan.model.init.n_layer
    assert plan.checkpoint is not None
    return {"checkpoint": plan.checkpoint if sha256 is None else sha256}, layers


def _completions(evaluate: Evaluate) -> dict[str, Any]:
    """What of the evaluations decides a result, as it stands in ids."""
    if evaluate.generate is None:
        return {}
    return {**evaluate.generate.model_dump(exclude={"at"}), "code_exec": evaluate.code_exec}


def _label(search: Search, siblings: Sequence[dict[str, Any]]) -> str:
    words = [search.task]
    for name, value in search.place.items():
        if any(other.get(name) != value for other in siblings):
            words.append(value if isinstance(value, str) and name != "steps" else f"{name}={value}")
    return " ".join(words).replace("\n", "\\n")  # a label is one line of a table
