"""The look into a screening run: when it is, whom it stops and how often wrongly, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats

from fsearch.search.board import Board, Run
from fsearch.search.futility import Look, look_of, look_step
from fsearch.search.next_step import Done
from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.search.screening import Unmatched, d_acc
from fsearch.search.specs import search_key, stage_spec

from .builders import MEDIUM, OOM, QUICK, Answer, World, plan_of, row, search_of, trained

SCREEN = {"prune_below": 0.125, "noise_floor_seeds": 2, "futility_look": 0.5}
SECOND = {"name": "second", "steps": 40}


def baselines(scores: Sequence[float | None], step: int | None = 10) -> list[Attempt]:
    """Quick baselines with these scores at the look, on the seeds 0, 1, ..."""
    search = search_of(screen=SCREEN if step is not None else {"noise_floor_seeds": 2})
    specs = [stage_spec(search, search.stages[0], None, seed, 4) for seed in range(len(scores))]
    return [row(spec, score=0.5, look_score=score) for spec, score in zip(specs, scores, strict=True)]


@pytest.mark.parametrize(
    ("fraction", "steps", "step"),
    [(0.5, 20, 10), (0.5, 180, 90), (0.3, 11, 3), (0.999, 20, 19), (0.001, 20, 1), (0.5, 2, 1), (0.9, 2, 1)],
)
def test_the_step_of_the_look(fraction: float, steps: int, step: int) -> None:
    """A rounded share of the first stage's steps, after the first and before the last; in no other stage."""
    stages = [{**QUICK, "steps": steps}, SECOND, MEDIUM]
    search = search_of(stages=stages, screen={**SCREEN, "futility_look": fraction})
    assert [look_step(search, stage) for stage in search.stages] == [step, None, None]
    specs = [stage_spec(search, stage, search.variants[0], 0, 4) for stage in search.stages]
    assert [spec.look_step for spec in specs] == [step, None, None]


@pytest.mark.parametrize(
    "scores", [[0.5, 0.25], [0.31, 0.29, 0.33], [0.1, 0.9, 0.4, 0.4], [0.25, 0.3, 0.2, 0.21, 0.4, 0.1]]
)
def test_the_bound_is_that_of_t(scores: list[float]) -> None:
    """Own score minus t(.90, n - 1) times sqrt(2) times the sample spread, with scipy's quantile."""
    own, *others = baselines(scores)
    look = look_of(own, others)
    below = scores[0] - scipy.stats.t.ppf(0.9, len(scores) - 1) * math.sqrt(2) * np.std(scores, ddof=1)
    assert look is not None and (look.step, look.baseline_score) == (10, scores[0])
    assert look.below == pytest.approx(below, abs=1e-12)


@pytest.mark.parametrize(
    "scores", [[0.5], [0.5, 0.5, 0.5], [0.5, None, None], [None, 0.5, 0.4]], ids=lambda scores: str(scores)
)
def test_without_known_noise_nobody_is_looked_at(scores: list[float | None]) -> None:
    """One score has no spread, equal ones tell nothing of it, and without its own there is no baseline."""
    own, *others = baselines(scores)
    assert look_of(own, others) is None


def test_a_plan_without_a_look_has_none() -> None:
    """Whatever stands in its rows."""
    own, *others = baselines([0.3, 0.4, 0.5], step=None)
    assert own.spec.look_step is None and look_of(own, others) is None


@pytest.mark.parametrize("n", [2, 3, 5])
def test_equal_variants_are_rarely_stopped(n: int) -> None:
    """At most a tenth of them plus four standard errors; of those three sd of a difference below, most."""
    rng, draws = np.random.default_rng(n), 4000
    scores = 0.5 + 0.02 * rng.standard_normal((draws, n))
    variant = 0.5 + 0.02 * rng.standard_normal(draws)
    own, *others = baselines([0.5] * n)
    looks = [look_of(*_with(own, others, list(map(float, some)))) for some in scores]
    below = np.array([look.below for look in looks if look is not None])
    assert len(below) == draws
    assert np.mean(variant < below) <= 0.10 + 4 * math.sqrt(0.10 * 0.90 / draws)
    worse = variant - 3 * math.sqrt(2) * 0.02
    assert np.mean(worse < below) > (0.6 if n == 2 else 0.8)


def _with(own: Attempt, others: list[Attempt], scores: list[float]) -> tuple[Attempt, list[Attempt]]:
    """The baselines with other scores at the look."""
    first, *rest = (
        row(known.spec, score=0.5, look_score=score)
        for known, score in zip((own, *others), scores, strict=True)
    )
    return first, rest


# In a search

TABLE = {
    ("no_fs", 0): Answer(score=0.5, look_score=0.3),
    ("no_fs", 1): Answer(score=0.5, look_score=0.32),
    ("no_fs", 2): Answer(score=0.5, look_score=0.28),
    ("scalar_l1", 0): Answer(score=0.9, look_score=0.24),  # the bound is 0.3 - 1.886 * 0.0283 = 0.2467
    ("head_l1_trainable", 0): Answer(score=0.9, look_score=0.25),
    ("scalar_l2", 0): Answer(score=0.51, look_score=0.9),
}
VARIANTS = ["scalar_l1", "head_l1_trainable", "scalar_l2"]


def world_of(table: dict[tuple[str, int], Answer] = TABLE, **changes: Any) -> World:
    def answer(spec: AttemptSpec, number: int) -> Answer:
        return table.get((spec.variant, spec.seed), Answer()) if spec.role == "screen" else Answer(score=0.5)

    return World(plan_of(**{"variants": VARIANTS, "screen": SCREEN, **changes}), answer)


def looks_of(world: World) -> tuple[dict[tuple[str, str, int], Look | None], Board]:
    """What each training run was held against, and how the search ended."""
    found = {}
    while not isinstance(step := world.step(), Done):
        if isinstance(step, Run) and step.spec.role in ("screen", "confirm"):
            found[step.spec.stage, step.spec.variant, step.spec.seed] = step.look
    return found, step.standing.boards[0]


def test_a_variant_far_behind_is_pruned_at_the_look() -> None:
    """It has a decision and a reason, no difference, and goes no further; who is slightly behind goes on."""
    world = world_of()
    looks, board = looks_of(world)
    exits = {entry.variant.name: entry.exit for entry in board.variants}
    assert exits == {"scalar_l1": "pruned", "head_l1_trainable": None, "scalar_l2": "pruned"}
    stopped, head, weak = board.variants
    assert stopped.stopped is not None and (stopped.screens, stopped.reason) == ([], "far behind")
    assert head.stopped is weak.stopped is None and weak.screens[0].decision == "prune"
    below = 0.3 - scipy.stats.t.ppf(0.9, 2) * math.sqrt(2) * 0.02
    for (stage, name, _), look in looks.items():
        if stage == "quick" and name != "no_fs":
            assert look is not None and look.below == pytest.approx(below, abs=1e-12)
        else:
            assert look is None, "a baseline is never stopped, and a confirmation neither"
    assert not [place for place in trained(world) if place[:2] == ("medium", "scalar_l1")]
    with pytest.raises(Unmatched, match="has no score"):
        d_acc(stopped.stopped, board.baselines["quick", 0])


@pytest.mark.parametrize("failed", [1, 2])
def test_a_noise_floor_that_fails_tells_less(failed: int) -> None:
    """With one baseline left there is no spread, and nobody is stopped; with two the bound is wider."""
    table = {**TABLE, **{("no_fs", seed): OOM for seed in range(1, failed + 1)}}
    looks, board = looks_of(world_of(table))
    look = looks["quick", "scalar_l1", 0]
    if failed == 2:
        assert look is None
    else:
        assert look is not None
        assert look.below == pytest.approx(0.3 - scipy.stats.t.ppf(0.9, 1) * 0.02, abs=1e-12)
    assert [entry.stopped for entry in board.variants] == [None, None, None]


def test_a_second_screening_stage_is_not_looked_into() -> None:
    """It has no noise floor to hold a variant against."""
    looks, board = looks_of(world_of(stages=[QUICK, SECOND, MEDIUM]))
    assert [name for (stage, name, _), look in looks.items() if look is not None] == VARIANTS
    assert board.variants[0].exit == "pruned"
    assert {known.spec.look_step for place, known in board.baselines.items() if place[0] != "quick"} == {None}


# What a look has to do with ids


def ids(**screen: Any) -> dict[tuple[str, str], str]:
    search = search_of(screen={"prune_below": 0.125, "noise_floor_seeds": 2, **screen})
    return {
        (stage.name, name): stage_spec(search, stage, variant, 1, 4).id
        for stage in search.stages
        for name, variant in (("no_fs", None), ("variant", search.variants[0]))
    }


def test_a_plan_without_a_look_keeps_its_ids() -> None:
    """Of the plan, its searches and its attempts, as they were before there were looks."""
    plans = [plan_of(screen={"noise_floor_seeds": 2, **more}) for more in ({}, {"futility_look": None})]
    search = search_of(screen={"noise_floor_seeds": 2})
    assert {plan.id for plan in plans} == {"fe72a05bc772020c"}
    assert search_key(search) == "882e5a64f9542857"
    assert stage_spec(search, search.stages[0], None, 0, 4).id == "16bf6395d5cd5e35"
    assert stage_spec(search, search.stages[0], search.variants[0], 0, 4).id == "349a12637d5ee07d"


def test_a_look_enters_the_ids_of_its_stage() -> None:
    """With all that decides who is stopped at it: the step, and how many baselines tell the noise."""
    plain, looked, later = ids(), ids(futility_look=0.5), ids(futility_look=0.6)
    more = ids(futility_look=0.5, noise_floor_seeds=3)
    for place in [("quick", "no_fs"), ("quick", "variant")]:
        assert len({known[place] for known in (plain, looked, later, more)}) == 4
    for place in [("medium", "no_fs"), ("medium", "variant")]:
        assert len({known[place] for known in (plain, looked, later, more)}) == 1
    assert ids(noise_floor_seeds=3) == plain


def test_rows_with_and_without_a_look_are_not_compared() -> None:
    """They belong to two searches, whose confirmations are shared."""
    plain, looked = (search_of(screen={"noise_floor_seeds": 2, **more}) for more in ({}, SCREEN))
    baseline = row(stage_spec(plain, plain.stages[0], None, 0, 4), score=0.5)
    variant = row(stage_spec(looked, looked.stages[0], looked.variants[0], 0, 4), score=0.6)
    with pytest.raises(Unmatched, match="differ in look_step:"):
        d_acc(variant, baseline)
    assert search_key(plain) != search_key(looked)
