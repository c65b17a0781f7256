"""`train.recompute: auto`: layers are recomputed only where that allows a larger batch than without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fsearch.search.probe import probe_memory_mib
from fsearch.search.rows import AttemptSpec, Recompute
from fsearch.search.specs import recompute_choices

from .builders import OK, OOM, Answer, World, plan_of, search_of, trained

LIMIT_MIB = 300
N_TRAIN = 500
VARIANTS = ["scalar_l1", "scalar_l9"]
"""The second is a static no-op."""


def plan(recompute: str = "auto", batch: Any = 12, **changes: Any) -> Any:
    fields = {
        "train": {"lr": 0.01, "recompute": recompute},
        "tasks": [{"task": "toy", "n_train": N_TRAIN, "batch": batch}],
        "variants": VARIANTS,
        "limits": {"memory_mib": LIMIT_MIB},
    }
    return plan_of(**{**fields, **changes})


def world_where(off: int, layers: int, otherwise: Answer = OOM, **changes: Any) -> World:
    """A world in which at most so many examples fit without and with layers recomputed: 10 MiB, and what is
    left of the limit shared among them."""
    fits: dict[Recompute, int] = {"off": off, "layers": layers}

    def answer(spec: AttemptSpec, number: int) -> Answer:
        if spec.role != "probe":
            return Answer(score=0.75 if spec.variant == "scalar_l1" else 0.5)
        most, room = fits[spec.recompute], probe_memory_mib(LIMIT_MIB) - 10
        return Answer(peak_mib=10 + room * spec.micro_batch / most) if spec.micro_batch <= most else otherwise

    return World(plan(**changes), answer)


def probed(world: World) -> list[tuple[Recompute, int]]:
    return [
        (known.spec.recompute, known.spec.micro_batch) for known in world.rows if known.spec.role == "probe"
    ]


def decided(world: World) -> tuple[Recompute | None, int | None]:
    """What the search has come to; all that was trained must have had it."""
    board = world.run().boards[0]
    rows = [known.spec for known in world.rows if known.spec.role in ("screen", "confirm") and known.score]
    assert rows and {(spec.recompute, spec.micro_batch) for spec in rows} == {
        (board.recompute, board.micro_batch)
    }
    return board.recompute, board.micro_batch


@pytest.mark.parametrize(
    ("off", "layers", "found"),
    [(12, 99, ("off", 12)), (5, 99, ("off", 4)), (1, 99, ("off", 1)), (0, 12, ("layers", 12))],
)
def test_a_given_batch_only_if_nothing_fits_without(
    off: int, layers: int, found: tuple[Recompute, int]
) -> None:
    """Micro-batches reach it anyway; so while one example fits, the other way is not even probed."""
    world = world_where(off, layers)
    assert decided(world) == found
    assert ("layers" in {how for how, _ in probed(world)}) == (found[0] == "layers")


def test_micro_batches_with_layers_recomputed() -> None:
    """They are looked for from the batch itself downwards, as without."""
    world = world_where(0, 5)
    assert decided(world) == ("layers", 4)
    sizes = [size for how, size in probed(world) if how == "layers"]
    assert sizes[0] == 12 and len(set(sizes)) == len(sizes)


@pytest.mark.parametrize(
    ("batch", "off", "layers", "chosen"),
    [
        ("largest", 40, 90, "layers"),
        ("largest", 8, 400, "layers"),
        ("largest", 0, 30, "layers"),
        ("largest", 40, 900, "layers"),
        ("largest", 40, 40, "off"),
        ("largest", 40, 20, "off"),
        ("largest", 900, 9000, "off"),
        ({"largest": {"at_most": 64}}, 40, 99, "layers"),
        ({"largest": {"at_most": 64}}, 40, 50, "layers"),
        ({"largest": {"at_most": 64}}, 40, 40, "off"),
        ({"largest": {"at_most": 64}}, 64, 99, "off"),
    ],
)
def test_the_largest_batch_only_if_it_is_larger(batch: Any, off: int, layers: int, chosen: Recompute) -> None:
    """Within 5 % of what fits, or one example, in at most twelve tries; with layers recomputed only sizes are
    tried that would be worth it, and few where none is."""
    world = world_where(off, layers, batch=batch)
    recompute, size = decided(world)
    most = batch["largest"]["at_most"] if isinstance(batch, dict) else N_TRAIN
    true = min(most, layers if chosen == "layers" else off)
    assert recompute == chosen and size is not None and min(true - 1, 0.95 * true) <= size <= true
    tries = probed(world)
    without = max((size for how, size in tries if how == "off" and size <= off), default=0)
    with_it = [size for how, size in tries if how == "layers"]
    assert tries == sorted(tries, key=lambda one: one[0] == "layers")  # all without come first
    assert all(size > without for size in with_it)
    assert len(with_it) <= 6 and len(tries) - len(with_it) <= 6
    if chosen == "off":
        assert len(with_it) == (0 if without == most else 1 if batch == "largest" else 2)


@pytest.mark.parametrize("batch", [12, "largest"])
def test_nothing_fits_either_way(batch: Any) -> None:
    """The search fails, and says that both were tried."""
    world = world_where(0, 0, batch=batch)
    board = world.run().boards[0]
    said = "nothing fits within 290 MiB (the plan's limits.memory_mib, less a margin), even with layers "
    assert board.failed == f"{said}recomputed: with a micro-batch of one example, out of memory"
    assert {("off", 1), ("layers", 1)} <= set(probed(world))
    assert trained(world) == [("quick", "scalar_l9", 0)] and board.recompute is None


@pytest.mark.parametrize(("batch", "off"), [(12, 0), ("largest", 40)])
def test_another_failure_is_not_taken_for_memory(batch: Any, off: int) -> None:
    """With layers recomputed as without: the search ends with its own word."""
    world = world_where(off, 0, batch=batch)
    fits = world.answer

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return Answer("diverged", None, "not finite") if spec.recompute == "layers" else fits(spec, number)

    world.answer = answer
    assert world.run().boards[0].failed == "the batch could not be verified (diverged): not finite"


@pytest.mark.parametrize(
    ("batch", "off", "layers"), [(12, 0, 5), ("largest", 40, 90), ({"largest": {"at_most": 64}}, 0, 50)]
)
def test_a_restart_at_any_step_decides_the_same(batch: Any, off: int, layers: int) -> None:
    """In the middle of the probes of either kind, or later: what was tried stands, and so does the choice."""
    calm = world_where(off, layers, batch=batch)
    found = decided(calm)
    assert found[0] == "layers"
    for crash in range(1, calm.steps):
        world = world_where(off, layers, batch=batch)
        world.crashes = {crash}
        assert decided(world) == found
        ended = [known.spec.id for known in world.rows if known.outcome != "interrupted"]
        assert ended == [known.spec.id for known in calm.rows]


@pytest.mark.parametrize(("off", "named"), [(5, "off"), (0, "layers")])
def test_a_plan_that_names_what_was_decided_shares_every_attempt(off: int, named: Recompute) -> None:
    """Nothing runs twice when a plan's option changes; only the labels of who asked first tell them apart."""
    auto = world_where(off, 99)
    auto.run()
    later = World(plan(named), auto.answer, rows=list(auto.rows))
    assert later.run().boards[0].micro_batch == auto.run().boards[0].micro_batch
    assert {known.spec.id for known in later.rows[len(auto.rows) :]} <= {no_op(named)}

    first = World(plan(named), auto.answer)
    first.run()
    own = {known.spec.id: known.spec for known in first.rows if known.spec.id != no_op(named)}
    shared = {known.spec.id: known.spec for known in auto.rows}
    labels = {"plan": "", "search": "", "search_key": ""}
    assert len(own) > 8 and own.keys() <= shared.keys()
    for identity, spec in own.items():
        assert replace(spec, **labels) == replace(shared[identity], **labels)

    again = World(plan(), auto.answer, rows=list(first.rows))
    assert decided(again) == decided(auto)
    new = [known.spec for known in again.rows[len(first.rows) :]]
    assert all(spec.recompute == "off" for spec in new) and not (new and named == "off")


def no_op(named: Recompute) -> str:
    """The row of the static no-op. It is written before anything is decided, under `auto` as under `off`."""
    world = World(plan(named))
    world.run()
    return next(known.spec.id for known in world.rows if known.outcome == "noop")


def test_a_search_goes_on_in_the_memory_that_it_began_with() -> None:
    """Also where its first probes were those of a plan that named one way."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return OOM if spec.role == "probe" and spec.recompute == "off" else OK

    first = World(plan("layers", limits=None), answer, memory_mib=4000)
    first.run()
    later = World(plan(limits=None), answer, memory_mib=2000, rows=list(first.rows))
    later.run()
    assert {known.spec.memory_mib for known in later.rows if known.spec.halves} == {4000}


def test_what_a_plan_leaves_open() -> None:
    """Nothing, unless it asks for `auto`."""
    recipes: list[dict[str, Any]] = [{}, {"recompute": "off"}, {"recompute": "layers"}, {"recompute": "auto"}]
    found = [recompute_choices(search_of(train={"lr": 0.01, **recipe})) for recipe in recipes]
    assert found == [("off",), ("off",), ("layers",), ("off", "layers")]
