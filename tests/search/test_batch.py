"""The batch is found or verified by real steps; a memory limit changes the micro-batch, never the recipe."""

from __future__ import annotations

from typing import Any

import pytest

from fsearch.search.probe import probe_memory_mib
from fsearch.search.rows import AttemptSpec
from fsearch.search.specs import heaviest, micro_batches, probe_spec, stage_spec

from .builders import OK, OOM, Answer, World, plan_of, search_of, trained

VARIANTS = ["scalar_l9", "scalar_l1", "scalar_l2_nodetach", "scalar_l1_norm_node", "head_l1_trainable"]


def world_where(fits: int, otherwise: Answer = OOM, *, batch: Any = 12, **changes: Any) -> World:
    """A world in which at most `fits` examples fit at once, 10 MiB and 1 MiB for each."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        if spec.role != "probe":
            return OK
        return Answer(peak_mib=10.0 + spec.micro_batch) if spec.micro_batch <= fits else otherwise

    limits = {"memory_mib": memory_for(fits)}
    tasks = [{"task": "toy", "n_train": 500, "batch": batch}]
    return World(plan_of(**{"tasks": tasks, "limits": limits, **changes}), answer)


def memory_for(fits: int) -> int:
    """A limit under which a probe may take 10 MiB and 1 MiB for each of `fits` examples."""
    return next(mib for mib in range(1000) if probe_memory_mib(mib) >= 10 + fits)


def probed(world: World) -> list[int]:
    return [known.spec.micro_batch for known in world.rows if known.spec.role == "probe"]


def test_micro_batches_are_the_divisors() -> None:
    """Only a divisor deals a batch into equal parts."""
    found = {
        batch: list(micro_batches(search_of(tasks=[{"task": "toy", "batch": batch}]))) for batch in (12, 7, 1)
    }
    assert found == {12: [1, 2, 3, 4, 6, 12], 7: [1, 7], 1: [1]}


@pytest.mark.parametrize(("fits", "found"), [(99, 12), (12, 12), (11, 6), (5, 4), (3, 3), (2, 2), (1, 1)])
def test_the_largest_divisor_that_fits_is_found(fits: int, found: int) -> None:
    """The batch itself is tried first; batch and recipe stay; both arms have one micro-batch."""
    world = world_where(fits)
    board = world.run().boards[0]
    assert probed(world)[0] == 12 and len(probed(world)) == len(set(probed(world))) <= 5
    assert board.micro_batch == found and not board.failed
    rows = [known.spec for known in world.rows if known.spec.role != "probe"]
    assert rows and {(spec.batch, spec.micro_batch) for spec in rows} == {(12, found)}


def test_many_divisors_take_few_tries() -> None:
    """The 30 divisors of 720 are not walked down: what is known of memory says where to look."""
    world = world_where(100, batch=720)
    assert world.run().boards[0].micro_batch == 90
    assert len(probed(world)) <= 6


@pytest.mark.parametrize(
    ("batch", "fits", "at_most"),
    [("largest", 90, 500), ("largest", 900, 500), ({"largest": {"at_most": 64}}, 40, 64)],
)
def test_the_largest_batch_is_found(batch: Any, fits: int, at_most: int) -> None:
    """It is a number of examples in one micro-batch, within 5 % of what fits, in at most six tries; every
    attempt is of that batch."""
    world = world_where(fits, batch=batch)
    board = world.run().boards[0]
    true = min(fits, at_most)
    assert board.micro_batch is not None and 0.95 * true <= board.micro_batch <= true
    assert len(probed(world)) <= 6 and all(size <= at_most for size in probed(world))
    specs = [known.spec for known in world.rows]
    assert all(spec.batch == spec.micro_batch for spec in specs)
    assert {spec.batch for spec in specs if spec.role != "probe"} == {board.micro_batch}


def test_a_bound_that_fits_is_the_only_try() -> None:
    """What the plan names is tried first."""
    world = world_where(99, batch={"largest": {"at_most": 8}})
    assert world.run().boards[0].micro_batch == 8
    assert probed(world) == [8]


def test_the_largest_is_one_of_a_sweep() -> None:
    """Each size is a search; where the largest is a size of the list, the two share their attempts."""
    world = world_where(40, batch=[4, {"largest": {"at_most": 4}}, "largest"])
    standing = world.run()
    four, found, largest = standing.boards
    assert (four.micro_batch, found.micro_batch) == (4, 4) and (largest.micro_batch or 0) >= 38
    assert [board.search.label for board in standing.boards] == [
        "toy batch=4",
        "toy largest<=4",
        "toy largest",
    ]
    assert list(four.asked) == list(found.asked)
    assert len(world.rows) == len({known.spec.id for known in world.rows})


def test_a_static_no_op_needs_no_batch() -> None:
    """It is written down before a batch is found, and again under no other."""
    world = world_where(40, batch="largest", variants=["scalar_l1", "scalar_l9"])
    board = world.run().boards[0]
    assert [entry.exit for entry in board.variants] == ["pruned", "noop"]
    assert [known.spec.batch for known in world.rows if known.outcome == "noop"] == [0]


@pytest.mark.parametrize("batch", [12, "largest"])
def test_a_found_batch_is_not_probed_again(batch: Any) -> None:
    """Going on after a restart reads the rows: the same sizes in the same order, whichever step died."""
    calm = world_where(5, batch=batch)
    calm.run()
    for crash in range(1, calm.steps):
        world = world_where(5, batch=batch)
        world.crashes = {crash}
        world.run()
        whole = [known.spec.micro_batch for known in world.rows if known.spec.role == "probe" and known.score]
        assert whole == [
            known.spec.micro_batch for known in calm.rows if known.spec.role == "probe" and known.score
        ]
        assert {known.spec.id for known in world.rows} == {known.spec.id for known in calm.rows}


def test_another_fingerprint_is_probed_anew() -> None:
    """What fitted under other code says nothing."""
    world = world_where(5, batch="largest")
    while not trained(world):
        world.step()
    before = probed(world)
    world.environment = "another"
    world.run()
    assert probed(world) == [*before, *before]


def test_nothing_fits_is_said_and_not_trained() -> None:
    """With a micro-batch of 1 out of memory the search has failed; it is never batch 1 by default."""
    for batch in (12, "largest"):
        world = world_where(0, batch=batch, limits={"memory_mib": 300})
        board = world.run().boards[0]
        assert probed(world)[-1] == 1
        said = "nothing fits within 290 MiB (the plan's limits.memory_mib, less a margin): "
        assert board.failed == f"{said}with a micro-batch of one example, out of memory"
        assert trained(world) == [] and board.finished


@pytest.mark.parametrize("word", ["crashed", "diverged", "hang", "host_oom", "gpu_lost"])
def test_another_failure_is_not_taken_for_memory(word: str) -> None:
    """Only `oom` makes the micro-batch smaller; anything else ends the search with its own word."""
    for batch, first in ((12, 12), ("largest", 8)):
        world = world_where(5, Answer(word, None, f"it was {word}"), batch=batch)
        board = world.run().boards[0]
        assert probed(world)[-1] == first
        assert f"({word})" in board.failed and "nothing fits" not in board.failed
        assert trained(world) == []


def test_a_limit_of_the_plan_enters_ids_and_a_machine_does_not() -> None:
    """It decides what runs out of memory; what a machine has is a matter of the moment."""
    search, limited = search_of(), search_of(limits={"memory_mib": 300})
    assert probe_spec(search, 4).id == probe_spec(search, 4, 700).id != probe_spec(limited, 4, 300).id
    stage = search.stages[0]
    assert stage_spec(search, stage, None, 0, 4).id != stage_spec(limited, stage, None, 0, 4).id


def test_all_attempts_of_a_search_have_the_memory_that_it_began_with() -> None:
    """Whatever a later daemon finds free; another search begins with that."""
    plan = plan_of(tasks=[{"task": "toy", "batch": 4}, {"task": "toy", "level": 1, "batch": 4}])
    world = World(plan, memory_mib=4000)
    while len(trained(world)) < 2:
        world.step()
    world.memory_mib, world.daemon = 2000, 2
    world.run()
    found = {(known.spec.search, known.spec.memory_mib) for known in world.rows}
    assert found == {("toy level=0", 4000), ("toy level=1", 2000)}


def test_an_oom_in_training_changes_no_batch() -> None:
    """A variant that runs out of memory after all has failed; nobody is trained at another size."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return OOM if spec.variant == "scalar_l1" and spec.role == "screen" else OK

    world = World(plan_of(variants=["scalar_l1", "head_l1_trainable"]), answer)
    board = world.run().boards[0]
    assert [entry.exit for entry in board.variants] == ["failed", "pruned"]
    assert {known.spec.micro_batch for known in world.rows} == {4}


def test_the_heaviest_variant_is_probed() -> None:
    """Gradients through most seeds, then most seeds; on the screen seed, in two steps, on all examples."""
    search = search_of(variants=VARIANTS)
    heavy = heaviest(search)
    assert heavy and heavy.name == "scalar_l1_norm_node"
    spec = probe_spec(search, 4)
    assert (spec.variant, spec.form["detach"], spec.steps, spec.seed) == ("scalar_l1_norm_node", False, 2, 0)
    assert spec.halves == ("all",)
    lighter = heaviest(search_of(variants=["scalar_l2", "scalar_l1", "scalar_l9"]))
    assert lighter and lighter.name == "scalar_l1"
