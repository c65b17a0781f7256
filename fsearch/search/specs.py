"""The attempts that a search may ask for: what each would train, and its id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fsearch.plan import BASELINE, Largest, Plan, Search, Stage, Variant, canonical
from fsearch.search.ids import data_key, digest
from fsearch.search.rows import AttemptSpec, Half, Role

SCREEN_SEED = 0
"""The one seed of every screening stage; confirmation seeds are 1, 2, ... so that they are fresh."""

CURVE_POINTS = 8


def confirm_seeds(stage: Stage) -> range:
    """The fresh seeds on which every promoted variant is confirmed."""
    return range(1, stage.first_seeds + 1)


def top_up_seeds(stage: Stage) -> range:
    """The further seeds of what is undecided after those; none without a top-up."""
    return range(stage.first_seeds + 1, stage.most_seeds + 1)


def noise_floor_seeds(search: Search) -> range:
    """Further seeds of the first stage's baseline; as far as they go, those of the confirmation."""
    return range(1, (search.screen.noise_floor_seeds if search.screen else 0) + 1)


def search_key(search: Search) -> str:
    """What all attempts of a search share."""
    return digest(_shared(search))


def search_data_key(search: Search) -> str:
    return data_key(search.task, search.arguments, search.master_seed)


def given_batch(search: Search) -> int:
    if isinstance(search.batch, Largest):
        raise ValueError(f"{search.label}: finding the largest batch is not available; give a number")
    return search.batch


def micro_batches(batch: int) -> list[int]:
    """The divisors of a batch, largest first: what its examples may be dealt into."""
    return [size for size in range(batch, 0, -1) if batch % size == 0]


def heaviest(search: Search) -> Variant | None:
    """The variant that needs most memory: gradients through most seeds, then most seeds."""

    def weight(variant: Variant) -> tuple[int, int]:
        form = canonical(variant, search.layers)
        layers = len(form.get("layers", ()))
        return (layers if not form.get("detach", True) else 0, layers)

    return max(search.variants, key=weight, default=None)


def probe_spec(search: Search, micro_batch: int) -> AttemptSpec:
    """One real step and one evaluation batch of the heaviest variant, on the longest examples."""
    variant = heaviest(search)
    name = variant.name if variant else BASELINE
    form = canonical(variant, search.layers)
    return _spec(search, "probe", "probe", 1, ("screen",), name, form, SCREEN_SEED, micro_batch, probe=True)


def stage_spec(
    search: Search, stage: Stage, variant: Variant | None, seed: int, micro_batch: int
) -> AttemptSpec:
    """The baseline (None) or a variant in one stage of the plan."""
    confirms = stage is search.stages[-1]
    halves: tuple[Half, ...] = ("screen",)
    if confirms:
        halves = ("screen", "confirm") if search.screen else ("all",)
    form = canonical(variant, search.layers)
    name = variant.name if variant else BASELINE
    role: Role = "confirm" if confirms else "screen"
    return _spec(search, stage.name, role, stage.steps, halves, name, form, seed, micro_batch)


def noop_spec(search: Search, stage: Stage, variant: Variant, micro_batch: int) -> AttemptSpec:
    """The row of a static no-op. Its canonical form is the baseline's, so its own fields tell it apart."""
    form = {"noop": variant.model_dump(mode="json", exclude={"name"})}
    seed = SCREEN_SEED if search.screen else confirm_seeds(stage)[0]
    role: Role = "screen" if search.screen else "confirm"
    return _spec(search, stage.name, role, stage.steps, (), variant.name, form, seed, micro_batch)


def build_spec(plan: str, environment: str) -> AttemptSpec:
    """The kernel's build: one row for each code and toolchain."""
    return _bare(plan, "build", digest({"build": environment}))


def inspect_spec(plan: Plan, environment: str) -> AttemptSpec:
    """The inspection of a plan's checkpoint: one row for each reference, whichever plans name it."""
    identity = digest({"inspect": plan.checkpoint, "environment": environment})
    return replace(_bare(plan.id, "inspect", identity), model={"checkpoint": plan.checkpoint})


def prepare_spec(search: Search, environment: str) -> AttemptSpec:
    """The preparation of a search's data: one row for each data set and version of the code."""
    identity = digest({"prepare": search_data_key(search), "environment": environment})
    return replace(
        _bare(search.plan, "prepare", identity),
        search=search.label,
        search_key=search_key(search),
        task=search.task,
        arguments=search.arguments,
        master_seed=search.master_seed,
    )


def _bare(plan: str, role: Role, identity: str) -> AttemptSpec:
    return AttemptSpec(
        id=identity,
        plan=plan,
        search="",
        search_key="",
        task="",
        arguments={},
        model={},
        recipe={},
        batch=0,
        micro_batch=0,
        stage=role,
        role=role,
        steps=0,
        halves=(),
        evaluate={},
        variant="",
        form={},
        seed=0,
        master_seed=0,
    )


def _shared(search: Search) -> dict[str, Any]:
    batch = search.batch
    return {
        "model": search.model,
        "task": search.task,
        "arguments": search.arguments,
        "recipe": search.recipe,
        "batch": batch if isinstance(batch, int) else {"largest": batch.at_most},
        "steps": [stage.steps for stage in search.stages],
        "screened": search.screen is not None,
        "master_seed": search.master_seed,
    }


def _spec(
    search: Search,
    stage: str,
    role: Role,
    steps: int,
    halves: tuple[Half, ...],
    variant: str,
    form: dict[str, Any],
    seed: int,
    micro_batch: int,
    *,
    probe: bool = False,
) -> AttemptSpec:
    batch = given_batch(search)
    identity = {
        "model": search.model,
        "task": search.task,
        "arguments": search.arguments,
        "recipe": search.recipe,
        "batch": batch,
        "micro_batch": micro_batch,  # decides how sums round, and only equal ones are compared
        "steps": steps,
        "halves": list(halves),
        "form": form,
        "seed": seed,
        "master_seed": search.master_seed,
        "probe": probe,
    }
    return AttemptSpec(
        id=digest(identity),
        plan=search.plan,
        search=search.label,
        search_key=search_key(search),
        task=search.task,
        arguments=search.arguments,
        model=search.model,
        recipe=search.recipe,
        batch=batch,
        micro_batch=micro_batch,
        stage=stage,
        role=role,
        steps=steps,
        halves=halves,
        evaluate={"every": search.every or max(1, steps // CURVE_POINTS)},
        variant=variant,
        form=form,
        seed=seed,
        master_seed=search.master_seed,
    )
