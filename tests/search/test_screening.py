"""The screen: keep or prune at once, ties, promotion, no-ops, merged variants, the noise floor."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fsearch.search.board import Board, Note, Run, VariantBoard
from fsearch.search.screening import Tie, decide, promote
from fsearch.search.walk import unmerged

from .builders import QUICK, TWINS, Answer, World, plan_of, scores, trained, words

THREE = ["scalar_l1", "head_l1_trainable", "scalar_l2"]


def entry_of(board: Board, name: str) -> VariantBoard:
    return next(entry for entry in board.variants if entry.variant.name == name)


@pytest.mark.parametrize(
    ("difference", "prune_below", "decision"),
    [
        (0.125, 0.125, "keep"),
        (0.12499, 0.125, "prune"),
        (0.2, 0.125, "keep"),
        (-0.1, -0.125, "keep"),
        (-0.13, -0.125, "prune"),
        (0.0, 0.0, "prune"),
        (0.0, -0.5, "prune"),
        (-0.0, -0.5, "prune"),
        (5e-324, 0.0, "keep"),
    ],
)
def test_keep_at_or_above_the_threshold(difference: float, prune_below: float, decision: str) -> None:
    """The threshold itself is kept; an exact tie is pruned whatever the threshold."""
    assert decide(difference, prune_below) == decision


@pytest.mark.parametrize("prune_below", [-0.25, 0.0, 0.001])
def test_an_exact_tie_is_pruned_and_flagged(prune_below: float) -> None:
    """A tie to the digit says that something does not work: it is never promoted, and it is said."""
    world = World(plan_of(screen={"prune_below": prune_below}), scores({}))
    entry = world.run().boards[0].variants[0]
    assert entry.exit == "pruned" and entry.screens[0].tie
    assert "tie" in entry.reason
    assert trained(world) == [("quick", "no_fs", 0), ("quick", "scalar_l1", 0)]


def with_losses(table: dict[tuple[str, str, int], tuple[float, float]]) -> World:
    """Scores and losses by (stage, variant, seed); one half and 1 where nothing is said."""

    def answer(spec: Any, number: int) -> Answer:
        score, loss = table.get((spec.stage, spec.variant, spec.seed), (0.5, 1.0))
        return Answer(score=score, loss=loss)

    return World(plan_of(variants=THREE), answer)


def test_scores_that_tie_although_the_losses_differ_are_told() -> None:
    """Within one stage and seed alone, the baseline among them or not; equal losses too are no tie."""
    table = {
        ("quick", "scalar_l1", 0): (0.5, 0.9),
        ("quick", "head_l1_trainable", 0): (0.75, 0.8),
        ("quick", "scalar_l2", 0): (0.75, 0.7),
        ("medium", "no_fs", 1): (0.25, 1.0),
        ("medium", "head_l1_trainable", 1): (0.25, 1.0),
        ("medium", "scalar_l2", 1): (0.125, 1.0),
        ("medium", "no_fs", 2): (0.75, 0.5),
        ("medium", "head_l1_trainable", 2): (0.625, 0.5),
        ("medium", "scalar_l2", 2): (0.625, 0.6),
    }
    ties = with_losses(table).run().boards[0].ties
    assert ties == [
        Tie("quick", 0, 0.5, ("no_fs", "scalar_l1")),
        Tie("quick", 0, 0.75, ("head_l1_trainable", "scalar_l2")),
        Tie("medium", 2, 0.625, ("head_l1_trainable", "scalar_l2")),
    ]


def test_a_pruned_variant_goes_no_further_at_once() -> None:
    """Its row is the last that is trained of it; the others are not held up."""
    table = {
        ("quick", "scalar_l1", 0): 0.4,
        ("quick", "head_l1_trainable", 0): 0.6,
        ("quick", "scalar_l2", 0): 0.7,
    }
    world = World(plan_of(variants=THREE), scores(table))
    board = world.run().boards[0]
    assert [entry.exit for entry in board.variants] == ["pruned", None, None]
    order = [("quick", "no_fs", 0), *(("quick", name, 0) for name in THREE)]
    for seed in (1, 2, 3):
        order += [("medium", name, seed) for name in ("no_fs", "head_l1_trainable", "scalar_l2")]
    assert trained(world) == order
    assert not entry_of(board, "scalar_l1").screens[0].tie


def test_with_all_pruned_no_medium_baseline_is_trained() -> None:
    """Nothing is spent on a confirmation that nobody asks for, and the plan ends without a verdict."""
    world = World(plan_of(variants=THREE), scores({}))
    standing = world.run()
    assert {stage for stage, _, _ in trained(world)} == {"quick"}
    assert standing.verdicts == {} and standing.boards[0].failed == ""


@pytest.mark.parametrize(
    ("at_most", "chosen"), [(None, [0, 1, 2, 3]), (3, [0, 2, 3]), (2, [0, 2]), (1, [2]), (9, [0, 1, 2, 3])]
)
def test_the_best_survivors_are_promoted_in_the_order_of_the_plan(
    at_most: int | None, chosen: list[int]
) -> None:
    """Ranked by d_acc; of equals the earlier one; trained in the plan's order."""
    kept = {"a": 0.25, "b": 0.125, "c": 0.5, "d": 0.25}
    assert promote(kept, at_most) == ["abcd"[i] for i in chosen]


def test_who_is_not_promoted_is_told() -> None:
    """A survivor that others beat leaves the search as `not_promoted`, with no medium row."""
    table = {
        ("quick", "scalar_l1", 0): 0.6,
        ("quick", "head_l1_trainable", 0): 0.8,
        ("quick", "scalar_l2", 0): 0.7,
    }
    plan = plan_of(variants=THREE, screen={"promote_at_most": 2})
    world = World(plan, scores(table))
    board = world.run().boards[0]
    assert [entry.exit for entry in board.variants] == ["not_promoted", None, None]
    assert "2 better" in board.variants[0].reason
    assert {name for stage, name, _ in trained(world) if stage == "medium"} == {
        "no_fs",
        "head_l1_trainable",
        "scalar_l2",
    }


def test_a_static_no_op_is_written_down_and_not_trained() -> None:
    """One row with its reason, before anything runs, and none after."""
    world = World(plan_of(variants=["scalar_l9", "scalar_l1"]), scores({}))
    step = world.step()
    assert isinstance(step, Note)
    assert (step.outcome, step.spec.variant) == ("noop", "scalar_l9")
    assert "layer 9" in step.reason and "not trained" in step.reason
    board = world.run().boards[0]
    assert entry_of(board, "scalar_l9").exit == "noop"
    rows = [known for known in world.rows if known.spec.variant == "scalar_l9"]
    assert [(known.outcome, known.spec.halves, known.try_number) for known in rows] == [("noop", (), 1)]


def test_a_dynamic_no_op_stops_where_it_is_found() -> None:
    """A variant that trains to the bit like its baseline leaves the search, on the screen or later."""
    for stage, seed, rows in (("quick", 0, 1), ("medium", 2, 3)):
        table: dict[tuple[str, str, int], float | str] = {("quick", "scalar_l1", 0): 0.75}
        world = World(plan_of(), scores({**table, (stage, "scalar_l1", seed): "noop"}))
        standing = world.run()
        entry = standing.boards[0].variants[0]
        assert entry.exit == "noop" and standing.verdicts == {}
        assert sum(name == "scalar_l1" for _, name, _ in trained(world)) == rows


def test_the_run_of_a_variant_carries_its_matched_baseline() -> None:
    """The trainer compares the first steps with the baseline of the same stage and seed."""
    world = World(plan_of(), scores({("quick", "scalar_l1", 0): 0.75}))
    seen = {}
    while isinstance(step := world.step(), Run):
        base = step.noop_reference
        key = (step.spec.stage, step.spec.variant, step.spec.seed)
        seen[key] = base and (base.spec.stage, base.spec.variant, base.spec.seed)
    assert seen.pop(("probe", "scalar_l1", 0)) is None
    assert len(seen) == 8
    for (stage, name, seed), reference in seen.items():
        assert reference == (None if name == "no_fs" else (stage, "no_fs", seed))


def test_coinciding_variants_are_one_attempt() -> None:
    """Two names with one canonical form are trained once, and both show the result."""
    table = {("quick", "linear", 0): 0.75}
    world = World(plan_of(variants=[*TWINS, "scalar_l1"]), scores(table))
    board = world.run().boards[0]
    assert [entry.same_as for entry in board.variants] == [None, "linear", None]
    assert "cosine" not in {name for _, name, _ in trained(world)}
    assert unmerged(board.variants, "cosine") is unmerged(board.variants, "linear")
    assert len(board.promoted) == 1 and len(unmerged(board.variants, "cosine").pairs) == 3


def test_a_merged_variant_takes_no_place_among_the_promoted() -> None:
    """The correction counts tests, and a second name is no second test."""
    table: dict[tuple[str, str, int], float | str] = {("quick", "linear", 0): 0.75}
    for seed, gain in ((1, 0.1), (2, 0.11), (3, 0.12)):
        table["medium", "linear", seed] = 0.5 + gain
    alone, merged = (
        World(plan_of(variants=variants), scores(table)).run().verdicts[0, "linear"]
        for variants in (TWINS[:1], TWINS)
    )
    assert alone == merged


@pytest.mark.parametrize(("asked", "seeds"), [(0, 3), (2, 3), (3, 3), (6, 3)])
def test_the_noise_floor_has_as_many_seeds_as_asked(asked: int, seeds: int) -> None:
    """The quick baseline on the first confirmation seeds, all of them, before any variant."""
    noise = {("quick", "no_fs", seed): 0.5 + seed / 64 for seed in range(8)}
    plan = plan_of(screen={"noise_floor_seeds": asked, "prune_below": 0.01}, claim={"at_least": 0.02})
    world = World(plan, scores(noise))
    board = world.run().boards[0]
    quick = [(name, seed) for stage, name, seed in trained(world) if stage == "quick"]
    assert quick == [*(("no_fs", seed) for seed in range(asked + 1)), ("scalar_l1", 0)]
    assert board.noise_scores == [0.5 + seed / 64 for seed in range(asked + 1)]
    if asked:
        mean = sum(board.noise_scores) / (asked + 1)
        variance = sum((score - mean) ** 2 for score in board.noise_scores) / asked
        assert board.noise_sd == pytest.approx(math.sqrt(2 * variance))
        assert board.card and board.card.sd == board.noise_sd
        assert (board.card.prune_below, board.card.at_least) == (0.01, 0.02)
    else:
        assert board.noise_sd is None and board.card is None


def test_a_noise_seed_that_fails_is_left_out() -> None:
    """The spread is that of the seeds that completed; the search goes on."""
    noise: dict[tuple[str, str, int], float | str] = {("quick", "no_fs", 1): "diverged"}
    world = World(plan_of(screen={"noise_floor_seeds": 2}), scores(noise))
    board = world.run().boards[0]
    assert board.noise_scores == [0.5, 0.5] and board.failed == ""


def test_a_plan_without_a_screen_confirms_every_variant() -> None:
    """One stage with seeds: no quick rows, seeds 1.., both halves together, verdicts for all but no-ops."""
    plan = plan_of(stages=[{"name": "only", "steps": 20, "seeds": 3}], variants=[*THREE, "scalar_l9"])
    world = World(plan, scores({}))
    standing = world.run()
    assert trained(world)[:5] == [
        ("only", "scalar_l9", 1),
        *(("only", name, 1) for name in ("no_fs", *THREE)),
    ]
    assert {known.spec.halves for known in world.rows if known.spec.role == "confirm"} == {("all",), ()}
    assert set(words(standing)) == {(0, name) for name in THREE}


def test_the_a_a_arm_is_compared_like_a_variant() -> None:
    """The baseline on other streams is trained and gets its difference: it is not a no-op."""

    def answer(spec: Any, number: int) -> Answer:
        return Answer(score=0.75 if spec.form["stream"] else 0.5)

    world = World(plan_of(variants=[{"name": "aa", "stream": 1}]), answer)
    entry = world.run().boards[0].variants[0]
    assert entry.exit is None and entry.screens[0].difference == 0.25
    assert [pair.difference for pair in entry.pairs] == [0.25] * 3


def test_quick_rows_see_the_screen_half_and_medium_rows_both() -> None:
    """The confirm half is never looked at by the screen; it is the headline of the confirmation."""
    world = World(plan_of(), scores({("quick", "scalar_l1", 0): 0.75}))
    world.run()
    halves = {known.spec.stage: known.spec.halves for known in world.rows}
    assert halves == {"probe": ("all",), "quick": ("screen",), "medium": ("screen", "confirm")}
    assert QUICK["steps"] == next(known.spec.steps for known in world.rows if known.spec.stage == "quick")
