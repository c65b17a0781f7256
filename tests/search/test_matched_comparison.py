"""A difference exists between matched rows only, and every stage compares with its own baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fsearch.search.rows import AttemptSpec
from fsearch.search.screening import Unmatched, d_acc
from fsearch.search.specs import stage_spec

from .builders import MEDIUM, OK, OOM, QUICK, Answer, World, plan_of, row, scores, search_of, trained, words

SEARCH = search_of()
STAGE = SEARCH.stages[0]
BASELINE = stage_spec(SEARCH, STAGE, None, 0, 4)
VARIANT = stage_spec(SEARCH, STAGE, SEARCH.variants[0], 0, 4)

OTHER: dict[str, Any] = {
    "task": "other",
    "arguments": {"level": 1},
    "model": {"init": {"n_layer": 4, "n_embd": 32, "head_size": 8}},
    "recipe": {**BASELINE.recipe, "lr": 0.02},
    "batch": 8,
    "micro_batch": 2,
    "role": "confirm",
    "steps": 60,
    "halves": ("screen", "confirm"),
    "seed": 1,
    "master_seed": 9,
}


def test_the_difference_of_matched_rows() -> None:
    """Variant minus baseline, in that order, at the last step."""
    assert d_acc(row(VARIANT, score=0.75), row(BASELINE, score=0.5)) == 0.25


@pytest.mark.parametrize("name", OTHER)
def test_a_baseline_that_differs_in_one_field_is_refused(name: str) -> None:
    """Whichever side differs, and in whichever field, the difference cannot be formed; the field is named."""
    with pytest.raises(Unmatched, match=name):
        d_acc(row(VARIANT, score=0.75), row(replace(BASELINE, **{name: OTHER[name]}), score=0.5))
    with pytest.raises(Unmatched, match=name):
        d_acc(row(replace(VARIANT, **{name: OTHER[name]}), score=0.75), row(BASELINE, score=0.5))


def test_rows_of_other_code_or_data_are_refused() -> None:
    """The fingerprint holds code, torch, backend, device, threads and data."""
    with pytest.raises(Unmatched, match="fingerprint"):
        d_acc(row(VARIANT, score=0.75, fingerprint="a"), row(BASELINE, score=0.5, fingerprint="b"))


def test_kernels_tuned_anew_between_a_baseline_and_its_variant() -> None:
    """The choice of kernels is a part of the backend's name: an unfinished search begins again from its
    baseline, and everything that is compared was trained under one choice."""
    world = World(plan_of(), scores({("quick", "scalar_l1", 0): 0.75}), backend="cuda2-tuned-01234567")
    while not trained(world):
        world.step()
    assert trained(world) == [("quick", "no_fs", 0)]
    world.backend = "cuda2-tuned-89abcdef"
    world.run()
    assert trained(world)[:3] == [("quick", "no_fs", 0), ("quick", "no_fs", 0), ("quick", "scalar_l1", 0)]
    first, *others = (one for one in world.rows if one.spec.role in ("screen", "confirm"))
    assert len({one.fingerprint for one in others}) == 1 and first.fingerprint != others[0].fingerprint


@pytest.mark.parametrize("form", [VARIANT.form, {"gate": "none", "stream": 1}])
def test_only_the_baseline_is_a_baseline(form: dict[str, Any]) -> None:
    """Neither a variant nor the A/A arm can stand in for it."""
    with pytest.raises(Unmatched, match="not a baseline"):
        d_acc(row(VARIANT, score=0.75), row(replace(BASELINE, form=form), score=0.5))


def test_a_row_without_a_score_is_refused() -> None:
    """A missing score is never taken for zero."""
    with pytest.raises(Unmatched, match="no score"):
        d_acc(row(VARIANT), row(BASELINE, score=0.5))
    with pytest.raises(Unmatched, match="no score"):
        d_acc(row(VARIANT, score=0.5), row(BASELINE))


def test_each_stage_and_seed_has_its_own_baseline() -> None:
    """The screen compares with the quick baseline of its seed, each confirmation seed with its own.

    All baselines score differently, so that any other pairing gives other numbers.
    """
    quick = {("quick", "no_fs", seed): 0.5 + 0.0625 * seed for seed in range(4)}
    medium = {("medium", "no_fs", seed): 0.7 + 0.03 * seed for seed in (1, 2, 3)}
    gains = {1: 0.01, 2: 0.03, 3: 0.02}
    variant = {("medium", "scalar_l1", seed): 0.7 + 0.03 * seed + gains[seed] for seed in gains}
    table = {**quick, **medium, **variant, ("quick", "scalar_l1", 0): 0.53125}
    plan = plan_of(screen={"prune_below": 0.03125, "noise_floor_seeds": 3})
    world = World(plan, scores(table))
    standing = world.run()
    entry = standing.boards[0].variants[0]
    assert [(s.difference, s.decision) for s in entry.screens] == [(0.03125, "keep")]
    assert [pair.difference for pair in entry.pairs] == pytest.approx([0.01, 0.03, 0.02], abs=1e-12)
    assert standing.verdicts[0, "scalar_l1"].paired.mean == pytest.approx(0.02)
    assert standing.boards[0].noise_scores == [0.5, 0.5625, 0.625, 0.6875]


def test_a_second_screen_compares_with_the_second_baseline() -> None:
    """A variant that only gained on the first screen is pruned on the second."""
    plan = plan_of(stages=[QUICK, {"name": "longer", "steps": 40}, MEDIUM])
    table = {
        ("quick", "no_fs", 0): 0.25,
        ("quick", "scalar_l1", 0): 0.5,
        ("longer", "no_fs", 0): 0.625,
        ("longer", "scalar_l1", 0): 0.5,
    }
    world = World(plan, scores(table))
    entry = world.run().boards[0].variants[0]
    assert [(s.difference, s.decision) for s in entry.screens] == [(0.25, "keep"), (-0.125, "prune")]
    assert entry.exit == "pruned"
    assert "medium" not in {stage for stage, _, _ in trained(world)}


def test_the_delta_of_the_drafts_has_its_own_name() -> None:
    """Medium minus quick baseline is shown as the drafts reported it, and decides nothing."""
    said = scores({("quick", "no_fs", 0): 0.25, ("quick", "scalar_l1", 0): 0.5})

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return replace(said(spec, number), screen_score=0.875)

    standing = World(plan_of(), answer).run()
    entry = standing.boards[0].variants[0]
    assert entry.drafts_delta == 0.875 - 0.25
    assert [pair.difference for pair in entry.pairs] == [0.0, 0.0, 0.0]
    assert words(standing) == {(0, "scalar_l1"): "equivalent"}


def test_rows_of_two_plans_with_other_micro_batches_are_not_compared() -> None:
    """Where another plan trained the same thing in other micro-batches, both plans go to their end.

    The heaviest variant decides the micro-batch, so that two plans may deal one batch differently; the
    second must not meet the first one's baseline and fail on it.
    """

    def answer(spec: AttemptSpec, number: int) -> Answer:
        fits = 4 if spec.form.get("detach", True) else 2
        return OOM if spec.role == "probe" and spec.micro_batch > fits else OK

    first = World(plan_of(variants=["scalar_l1"]), answer)
    first.run()
    second = World(plan_of(variants=["scalar_l1", "scalar_l1_norm_node"]), answer, rows=first.rows)
    board = second.run().boards[0]
    assert board.micro_batch == 2
    assert {known.spec.micro_batch for known in board.baselines.values()} == {2}
    assert [len(entry.screens) for entry in board.variants] == [1, 1]
