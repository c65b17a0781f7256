"""The attempts that a search may ask for: what each would train, and its id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fsearch.plan import BASELINE, Largest, Plan, Search, Stage, Variant, canonical
from fsearch.search.futility import look_step
from fsearch.search.ids import data_key, digest
from fsearch.search.rows import AttemptSpec, Half, Recompute, Role

SCREEN_SEED = 0
"""The one seed of every screening stage; confirmation seeds are 1, 2, ... so that they are fresh."""

CURVE_POINTS = 8

_kept = lru_cache(maxsize=4096)
"""A search's attempts are hashed once, not at every decision. What they hold is not to be changed."""


def confirm_seeds(stage: Stage) -> range:
    """The fresh seeds on which every promoted variant is confirmed."""
    return range(1, stage.first_seeds + 1)


def top_up_seeds(stage: Stage) -> range:
    """The further seeds of what is undecided after those; none without a top-up."""
    return range(stage.first_seeds + 1, stage.most_seeds + 1)


def noise_floor_seeds(search: Search) -> range:
    """Further seeds of the first stage's baseline; as far as they go, those of the confirmation."""
    return range(1, (search.screen.noise_floor_seeds if search.screen else 0) + 1)


@_kept
def search_key(search: Search) -> str:
    """What all attempts of a search share."""
    return digest(_shared(search))


@_kept
def search_data_key(search: Search) -> str:
    return data_key(search.task, search.arguments, search.master_seed)


def recompute_choices(search: Search) -> tuple[Recompute, ...]:
    """Whether layers are recomputed, as far as the plan leaves it open; what is tried first comes first."""
    asked = search.recipe.get("recompute", "off")
    return ("off", "layers") if asked == "auto" else (asked,)


def micro_batches(search: Search, fits: int = 0) -> Sequence[int]:
    """What a micro-batch may be, ascending: a divisor of the batch, or any number where that is to be found.

    Only those that allow a larger batch than micro-batches of `fits` examples do, 0 where nothing fits: any
    of them reaches a batch that is given. The largest has no more examples than there are, and than the plan
    allows.
    """
    if isinstance(search.batch, Largest):
        examples = int(search.arguments["n_train"])
        return range(fits + 1, min(examples, search.batch.at_most or examples) + 1)
    return () if fits else [size for size in range(1, search.batch + 1) if search.batch % size == 0]


def first_micro_batch(search: Search, fits: int = 0) -> int:
    """What of `micro_batches` is tried first: what the plan names, else the smallest."""
    unbounded = isinstance(search.batch, Largest) and search.batch.at_most is None
    return micro_batches(search, fits)[0 if unbounded else -1]


def heaviest(search: Search) -> Variant | None:
    """The variant that needs most memory: gradients through most seeds, then most seeds."""

    def weight(variant: Variant) -> tuple[int, int]:
        form = canonical(variant, search.layers)
        layers = len(form.get("layers", ()))
        return (layers if not form.get("detach", True) else 0, layers)

    return max(search.variants, key=weight, default=None)


@_kept
def probe_spec(
    search: Search, micro_batch: int, memory_mib: int | None = None, recompute: Recompute | None = None
) -> AttemptSpec:
    """Two real steps and one evaluation batch of the heaviest variant, on the longest examples of all.

    Two, because only the second finds what the optimizer remembers beside the activations. `recompute` is one
    of `recompute_choices`; None: the first.
    """
    variant = heaviest(search)
    name = variant.name if variant else BASELINE
    form = canonical(variant, search.layers)
    sizes = micro_batch, memory_mib, recompute
    return _spec(search, "probe", "probe", 2, ("all",), name, form, SCREEN_SEED, *sizes, probe=True)


@_kept
def stage_spec(
    search: Search,
    stage: Stage,
    variant: Variant | None,
    seed: int,
    micro_batch: int,
    memory_mib: int | None = None,
    recompute: Recompute | None = None,
) -> AttemptSpec:
    """The baseline (None) or a variant in one stage of the plan; `recompute` as in `probe_spec`."""
    confirms = stage is search.stages[-1]
    halves: tuple[Half, ...] = ("screen",)
    if confirms:
        halves = ("screen", "confirm") if search.screen else ("all",)
    form = canonical(variant, search.layers)
    name = variant.name if variant else BASELINE
    role: Role = "confirm" if confirms else "screen"
    sizes = micro_batch, memory_mib, recompute
    look = look_step(search, stage)
    return _spec(search, stage.name, role, stage.steps, halves, name, form, seed, *sizes, look=look)


@_kept
def noop_spec(search: Search, stage: Stage, variant: Variant) -> AttemptSpec:
    """The row of a static no-op. Its canonical form is the baseline's, so its own fields tell it apart.

    It is written before a batch that has to be found is: the batch is 0 there.
    """
    form = {"noop": variant.model_dump(mode="json", exclude={"name"})}
    seed = SCREEN_SEED if search.screen else confirm_seeds(stage)[0]
    role: Role = "screen" if search.screen else "confirm"
    batch = search.batch if isinstance(search.batch, int) else 0
    return _spec(search, stage.name, role, stage.steps, (), variant.name, form, seed, batch)


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
    shared = {
        "model": search.model,
        "task": search.task,
        "arguments": search.arguments,
        "recipe": search.recipe,
        "batch": batch if isinstance(batch, int) else {"largest": batch.at_most},
        "steps": [stage.steps for stage in search.stages],
        "screened": search.screen is not None,
        "master_seed": search.master_seed,
    }
    return shared | _limit(search) | _look(search, look_step(search, search.stages[0])) | _completions(search)


@_kept
def _recipe(search: Search, recompute: Recompute) -> dict[str, Any]:
    """The recipe of an attempt: that of a plan which asks for this very choice."""
    recipe = {**search.recipe, "recompute": recompute}
    if recompute == "off":
        del recipe["recompute"]
    return recipe


def _completions(search: Search) -> dict[str, Any]:
    """How completions are generated, as it stands in ids. The metric is in none: it only reads rows."""
    return {"completions": search.completions} if search.completions else {}


def _limit(search: Search) -> dict[str, int]:
    """A limit of the plan as it stands in ids: it decides what runs out of memory."""
    return {} if search.memory_mib is None else {"memory_mib": search.memory_mib}


def _look(search: Search, step: int | None) -> dict[str, int]:
    """A look as it stands in ids: its step, and how many baselines decide who is stopped there."""
    return {} if step is None else {"look": step, "noise_floor_seeds": len(noise_floor_seeds(search))}


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
    memory_mib: int | None = None,
    recompute: Recompute | None = None,
    *,
    probe: bool = False,
    look: int | None = None,
) -> AttemptSpec:
    batch = search.batch if isinstance(search.batch, int) else micro_batch
    recipe = _recipe(search, recompute or recompute_choices(search)[0])
    identity = {
        "model": search.model,
        "task": search.task,
        "arguments": search.arguments,
        "recipe": recipe,
        "batch": batch,
        "micro_batch": micro_batch,  # decides how sums round, and only equal ones are compared
        "steps": steps,
        "halves": list(halves),
        "form": form,
        "seed": seed,
        "master_seed": search.master_seed,
        "probe": probe,
        **_limit(search),
        **_look(search, look),
        **_completions(search),
    }
    evaluate: dict[str, Any] = {"every": search.every or max(1, steps // CURVE_POINTS)}
    if look is not None:
        evaluate["look"] = look
    if search.completions:
        evaluate |= _completions(search)
        evaluate["completions_at"] = [step for step in search.completions_at if step < steps]
    return AttemptSpec(
        id=digest(identity),
        plan=search.plan,
        search=search.label,
        search_key=search_key(search),
        task=search.task,
        arguments=search.arguments,
        model=search.model,
        recipe=recipe,
        batch=batch,
        micro_batch=micro_batch,
        stage=stage,
        role=role,
        steps=steps,
        halves=halves,
        evaluate=evaluate,
        variant=variant,
        form=form,
        seed=seed,
        master_seed=search.master_seed,
        memory_mib=memory_mib,
    )
