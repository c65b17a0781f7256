"""Where effects hold: one row a variant and search, signs that flip, replays, and best against best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fsearch.search.next_step import standing_of
from fsearch.search.regimes import BestAgainstBest, RegimeRow, TaskRegimes, regimes
from fsearch.search.rows import AttemptSpec
from fsearch.search.statistics import paired_t

from .builders import Answer, World, plan_of

WOBBLE = {1: -0.01, 2: 0.0, 3: 0.01}
Gain = Callable[[AttemptSpec], float]


def world_of(
    gain: Gain,
    level: Callable[[AttemptSpec], float] = lambda spec: 0.4,
    weights: Callable[[AttemptSpec], str] = lambda spec: spec.id,
    **changes: Any,
) -> World:
    """`gain` of a variant over the baseline's `level`; the difference wobbles a little from seed to seed."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        score = level(spec)
        if spec.variant != "no_fs":
            score += gain(spec) + WOBBLE.get(spec.seed, 0.0)
        return Answer(score=score, screen_score=score - 0.05, weights=weights(spec))

    fields = {"screen": {"prune_below": -0.45}, "variants": ["scalar_l1", "scalar_l2", "head_l1_trainable"]}
    return World(plan_of(**{**fields, **changes}), answer)


def found(world: World) -> TaskRegimes:
    (one,) = regimes(world.run().boards)
    return one


def rows_by(one: TaskRegimes) -> dict[tuple[str, str], RegimeRow]:
    return {(row.variant, row.search): row for row in one.rows}


ORDERS = [{"task": "toy", "batch": 4, "order": order} for order in ("q_after", "q_first")]


def test_one_row_for_each_variant_and_search() -> None:
    """What tells the searches apart, the matched mean and its interval; by family, first layer, search."""
    tasks = [
        {"task": "toy", "batch": [2, 4], "order": "q_after"},
        {"task": "toy", "batch": 4, "order": "q_first"},
    ]
    one = found(world_of(lambda spec: 0.1, tasks=tasks))
    assert (one.task, one.searches) == ("toy", 3)
    places = [(row.variant, row.where) for row in one.rows]
    three = [
        {"order": "q_after", "batch": 2},
        {"order": "q_after", "batch": 4},
        {"order": "q_first", "batch": 4},
    ]
    assert places == [
        (name, where) for name in ("scalar_l1", "scalar_l2", "head_l1_trainable") for where in three
    ]
    families = {row.variant: row.family for row in one.rows}
    assert families["scalar_l1"] == families["scalar_l2"] != families["head_l1_trainable"]
    test = paired_t([0.09, 0.1, 0.11])
    for row in one.rows:
        assert (row.stage, row.seeds, row.sign, row.replay_of) == ("medium", 3, "", "")
        assert (row.mean, row.low, row.high) == pytest.approx((test.mean, test.low, test.high))


def test_a_screened_variant_stands_there_with_one_seed() -> None:
    """Its last screening difference without an interval; no-ops and merged variants have no row."""
    twins = [{"name": "linear", "schedule": "linear"}, {"name": "cosine", "schedule": "cosine"}]
    world = world_of(
        lambda spec: -0.1 if spec.variant == "scalar_l1" else 0.1,
        variants=["scalar_l1", "scalar_l9", *twins],
        screen={"prune_below": 0.0},
    )
    one = found(world)
    shown = [(row.variant, row.stage, row.seeds, row.low) for row in one.rows]
    assert shown[0] == ("scalar_l1", "quick", 1, None)
    assert [name for name, *_ in shown] == ["scalar_l1", "linear"]


def test_signs_that_flip() -> None:
    """Beyond the noise on both sides: flip; where only the other one is: flip?; of first layers too."""

    def gain(spec: AttemptSpec) -> float:
        if spec.arguments["order"] == "q_after":
            return 0.1
        return {"scalar_l1": -0.1, "scalar_l2": -0.005, "head_l1_trainable": 0.05}[spec.variant]

    signs = {key: row.sign for key, row in rows_by(found(world_of(gain, tasks=ORDERS))).items()}
    assert signs == {
        ("scalar_l1", "toy q_after"): "flip",
        ("scalar_l1", "toy q_first"): "flip",
        ("scalar_l2", "toy q_after"): "flip",
        ("scalar_l2", "toy q_first"): "flip?",
        ("head_l1_trainable", "toy q_after"): "",
        ("head_l1_trainable", "toy q_first"): "",
    }


def test_a_screening_row_flips_nothing() -> None:
    """One seed shows no sign."""

    def gain(spec: AttemptSpec) -> float:
        return 0.1 if spec.arguments["order"] == "q_after" else -0.2

    one = found(world_of(gain, tasks=ORDERS, screen={"prune_below": 0.0}))
    assert {row.sign for row in one.rows} == {""} and {row.stage for row in one.rows} == {"medium", "quick"}


def test_identical_trajectories_are_counted_once() -> None:
    """A search whose runs are those of another to the bit is no replication, and flips nothing."""

    def weights(spec: AttemptSpec) -> str:
        return f"{spec.variant} {spec.seed} {spec.stage}"  # the order changes nothing

    rows = rows_by(found(world_of(lambda spec: 0.1, weights=weights, tasks=ORDERS)))
    first, again = rows["scalar_l1", "toy q_after"], rows["scalar_l1", "toy q_first"]
    assert (first.seeds, first.replay_of) == (3, "")
    assert (again.seeds, again.replay_of) == (0, "toy q_after scalar_l1")
    assert rows["head_l1_trainable", "toy q_first"].seeds == 0


def test_a_replayed_sweep_is_no_second_best() -> None:
    """Best against best is said once, of the sweep that ran first."""

    def weights(spec: AttemptSpec) -> str:
        return f"{spec.variant} {spec.seed} {spec.stage} {spec.recipe['lr']}"

    tasks = [{**place, "train": {"lr": [0.01, 0.02]}} for place in ORDERS]
    world = world_of(lambda spec: 0.1, weights=weights, tasks=tasks, variants=["scalar_l1"])
    assert [one.where for one in found(world).best] == [{"order": "q_after"}]


def test_one_seed_that_repeats_another_is_left_out() -> None:
    """Of three seeds two are of their own."""

    def weights(spec: AttemptSpec) -> str:
        return f"{spec.variant} {min(spec.seed, 2)} {spec.stage}"

    (row, *_) = found(world_of(lambda spec: 0.1, weights=weights)).rows
    test = paired_t([0.09, 0.1])
    assert (row.seeds, row.replay_of) == (2, "")
    assert (row.mean, row.low) == pytest.approx((test.mean, test.low))


def test_rows_without_a_hash_of_their_weights_are_no_replays() -> None:
    """Nothing is known of their trajectories."""
    rows = found(world_of(lambda spec: 0.1, weights=lambda spec: "", tasks=ORDERS)).rows
    assert {(row.seeds, row.replay_of) for row in rows} == {(3, "")}


RATES = [0.01, 0.02, 0.04]


def sweep(level: dict[float, float], gain: dict[float, float], **changes: Any) -> TaskRegimes:
    """A sweep of the learning rate with one variant."""
    fields = {"variants": ["scalar_l1"], "train": {"lr": RATES}}
    world = world_of(
        lambda spec: gain[spec.recipe["lr"]], lambda spec: level[spec.recipe["lr"]], **{**fields, **changes}
    )
    return found(world)


def test_a_gain_at_a_rate_that_is_bad_for_the_baseline_is_shown_as_such() -> None:
    """Same against same it gains 20 pp at one rate; best against best it loses 1 pp."""
    one = sweep({0.01: 0.6, 0.02: 0.5, 0.04: 0.39}, {0.01: -0.02, 0.02: 0.0, 0.04: 0.2})
    (best,) = one.best
    test = paired_t([-0.02, -0.01, 0.0])
    assert (best.variant_lr, best.baseline_lr, best.gains_at, best.seeds) == (0.04, 0.01, (0.04,), 3)
    assert (best.mean, best.low, best.high) == pytest.approx((test.mean, test.low, test.high))
    assert best.only_where_the_baseline_is_bad and best.where == {}
    assert [row.where for row in one.rows] == [{"lr": lr} for lr in RATES]


def test_a_gain_that_holds_at_the_best_rate_of_both() -> None:
    """Best against best is then a gain too."""
    (best,) = sweep(dict.fromkeys(RATES, 0.5), {0.01: 0.1, 0.02: 0.2, 0.04: 0.0}).best
    assert (best.variant_lr, best.baseline_lr, best.gains_at) == (0.02, 0.01, (0.01, 0.02))
    assert best.low is not None and best.low > 0
    assert not best.only_where_the_baseline_is_bad


def test_rates_are_chosen_on_the_screen_half() -> None:
    """The half that is compared does not choose: a rate that is best on it alone is not taken."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        gain = (0.1 + WOBBLE.get(spec.seed, 0.0)) * (spec.variant != "no_fs")
        high = spec.recipe["lr"] == 0.02
        return Answer(score=0.4 + gain + 0.2 * high, screen_score=0.4 + gain - 0.2 * high, weights=spec.id)

    plan = plan_of(variants=["scalar_l1"], train={"lr": [0.01, 0.02]})
    (best,) = found(World(plan, answer)).best
    assert (best.variant_lr, best.baseline_lr) == (0.01, 0.01)


def test_without_a_confirmation_at_the_best_rate_nothing_is_known() -> None:
    """The quick baselines then say which rate is the baseline's best."""
    (best,) = sweep(
        {0.01: 0.6, 0.02: 0.5, 0.04: 0.39}, {0.01: -0.1, 0.02: 0.1, 0.04: 0.1}, screen={"prune_below": 0.0}
    ).best
    assert (best.variant_lr, best.baseline_lr, best.mean) == (0.02, 0.01, None)
    assert "0.01, has no confirmation" in best.unknown and not best.only_where_the_baseline_is_bad


def test_searches_that_differ_in_more_are_not_compared() -> None:
    """Each batch has its own best rates; a plan without a sweep has none."""
    tasks = [{"task": "toy", "batch": [2, 4], "train": {"lr": [0.01, 0.02]}}]
    best = sweep(dict.fromkeys(RATES, 0.5), dict.fromkeys(RATES, 0.1), tasks=tasks, train={"lr": 0.5}).best
    assert [one.where for one in best] == [{"batch": 2}, {"batch": 4}]
    assert found(world_of(lambda spec: 0.1, tasks=ORDERS)).best == ()


def test_a_sweep_that_has_not_ended_has_no_best() -> None:
    """The best of a part is not the best."""
    world = world_of(lambda spec: 0.1, train={"lr": RATES}, variants=["scalar_l1"])
    seen: list[tuple[BestAgainstBest, ...]] = []
    while not (standing := standing_of(world.plan, world.facts, world.record)).finished:
        seen.append(regimes(standing.boards)[0].best)
        world.step()
    assert set(seen) == {()}
    assert len(regimes(standing.boards)[0].best) == 1
