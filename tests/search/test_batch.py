"""The batch is verified by one real step; a memory limit changes the micro-batch, never the recipe."""

from __future__ import annotations

import pytest

from fsearch.search.rows import AttemptSpec
from fsearch.search.specs import heaviest, micro_batches, probe_spec

from .builders import OK, OOM, Answer, World, plan_of, search_of, trained

VARIANTS = ["scalar_l9", "scalar_l1", "scalar_l2_nodetach", "scalar_l1_norm_node", "head_l1"]


def world_where(fits: int, otherwise: Answer = OOM) -> World:
    """A batch of 12, of which at most `fits` examples fit at once."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return OK if spec.role != "probe" or spec.micro_batch <= fits else otherwise

    return World(plan_of(tasks=[{"task": "toy", "batch": 12}]), answer)


def probed(world: World) -> list[int]:
    return [known.spec.micro_batch for known in world.rows if known.spec.role == "probe"]


def test_micro_batches_are_the_divisors() -> None:
    """Only a divisor deals a batch into equal parts."""
    assert micro_batches(12) == [12, 6, 4, 3, 2, 1]
    assert micro_batches(7) == [7, 1]
    assert micro_batches(1) == [1]


@pytest.mark.parametrize(
    ("fits", "tried"),
    [(99, [12]), (12, [12]), (11, [12, 6]), (5, [12, 6, 4]), (2, [12, 6, 4, 3, 2]), (1, [12, 6, 4, 3, 2, 1])],
)
def test_the_largest_divisor_that_fits_is_found(fits: int, tried: list[int]) -> None:
    """Each size that runs out of memory is a row; batch and recipe stay; both arms have one micro-batch."""
    world = world_where(fits)
    board = world.run().boards[0]
    assert probed(world) == tried
    assert board.micro_batch == tried[-1] and not board.failed
    rows = [known.spec for known in world.rows if known.spec.role != "probe"]
    assert rows and {(spec.batch, spec.micro_batch) for spec in rows} == {(12, tried[-1])}


def test_a_found_batch_is_not_probed_again() -> None:
    """Going on after a restart reads the rows."""
    world = world_where(5)
    for _ in range(4):
        world.step()
    world.daemon += 1
    world.run()
    assert probed(world) == [12, 6, 4]


def test_nothing_fits_is_said_and_not_trained() -> None:
    """With a micro-batch of 1 out of memory the search has failed; it is never batch 1 by default."""
    world = world_where(0)
    board = world.run().boards[0]
    assert probed(world) == [12, 6, 4, 3, 2, 1]
    assert "nothing fits" in board.failed and "out of memory" in board.failed
    assert trained(world) == [] and board.finished


@pytest.mark.parametrize("word", ["crashed", "diverged", "hang", "host_oom", "gpu_lost"])
def test_another_failure_is_not_taken_for_memory(word: str) -> None:
    """Only `oom` makes the micro-batch smaller; anything else ends the search with its own word."""
    world = world_where(5, Answer(word, None, f"it was {word}"))
    board = world.run().boards[0]
    assert set(probed(world)) == {12}
    assert f"({word})" in board.failed and "nothing fits" not in board.failed
    assert trained(world) == []


def test_an_oom_in_training_changes_no_batch() -> None:
    """A variant that runs out of memory after all has failed; nobody is trained at another size."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return OOM if spec.variant == "scalar_l1" and spec.role == "screen" else OK

    world = World(plan_of(variants=["scalar_l1", "head_l1"]), answer)
    board = world.run().boards[0]
    assert [entry.exit for entry in board.variants] == ["failed", "pruned"]
    assert {known.spec.micro_batch for known in world.rows} == {4}


def test_the_heaviest_variant_is_probed() -> None:
    """Gradients through most seeds, then most seeds; on the screen seed, in one step."""
    search = search_of(variants=VARIANTS)
    heavy = heaviest(search)
    assert heavy and heavy.name == "scalar_l1_norm_node"
    spec = probe_spec(search, 4)
    assert (spec.variant, spec.form["detach"], spec.steps, spec.seed) == ("scalar_l1_norm_node", False, 1, 0)
    lighter = heaviest(search_of(variants=["scalar_l2", "scalar_l1", "scalar_l9"]))
    assert lighter and lighter.name == "scalar_l1"


def test_a_batch_that_must_be_found_first_is_refused() -> None:
    """Until it can be found, `largest` is an error and not a guess."""
    world = World(plan_of(tasks=[{"task": "toy", "batch": "largest"}]))
    with pytest.raises(ValueError, match="largest batch is not available; give a number"):
        world.run()
