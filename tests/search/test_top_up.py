"""Three seeds for all, five for what is undecided: who gets more, when, and at which levels."""

from __future__ import annotations

from typing import Any

import pytest

from fsearch.search.board import Run
from fsearch.search.next_step import standing_of
from fsearch.search.rows import AttemptSpec
from fsearch.search.verdict import FIRST_LEVEL, SECOND_LEVEL, second_look, undecided, verdicts

from .builders import QUICK, Answer, World, plan_of, trained, words

TOP_UP = [QUICK, {"name": "medium", "steps": 60, "seeds": {"first": 3, "then": 5}}]
CLEAR = [0.030, 0.031, 0.032, 0.9, 0.9]  # the last two are never asked for
NOISE = [0.09, -0.08, 0.02, 0.03, -0.05]
LATE = [0.05, 0.02, 0.04, 0.035, 0.036]  # decided by five seeds, not by three
TASKS = [{"task": "toy", "batch": 4}, {"task": "other", "batch": 4}]
VARIANTS = ["scalar_l1", "head_l1_trainable"]
TABLE = {
    "toy scalar_l1": CLEAR,
    "toy head_l1_trainable": NOISE,
    "other scalar_l1": LATE,
    "other head_l1_trainable": CLEAR,
}


def world_of(table: dict[str, list[float]] = TABLE, **changes: Any) -> World:
    """Both variants of both tasks are promoted; medium differences by task, variant and seed."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        if spec.variant == "no_fs" or spec.role != "confirm":
            return Answer(score=0.4 + 0.25 * (spec.variant != "no_fs"))
        return Answer(score=0.4 + table[f"{spec.task} {spec.variant}"][spec.seed - 1])

    fields = {"stages": TOP_UP, "tasks": TASKS, "variants": VARIANTS, "claim": {"at_least": 0.001}}
    return World(plan_of(**{**fields, **changes}), answer)


def confirmations(world: World) -> list[tuple[str, str, int]]:
    rows = (row.spec for row in world.rows if row.spec.role == "confirm")
    return [(spec.task, spec.variant, spec.seed) for spec in rows]


def test_only_what_is_undecided_gets_more_seeds_and_only_after_all_searches() -> None:
    """Each with its own baseline, in the plan's order; the decided are not trained again."""
    world = world_of()
    standing = world.run()
    first = [
        (task, name, seed)
        for task in ("toy", "other")
        for seed in (1, 2, 3)
        for name in ("no_fs", "scalar_l1", "head_l1_trainable")
    ]
    more = [("toy", name, seed) for seed in (4, 5) for name in ("no_fs", "head_l1_trainable")]
    more += [("other", name, seed) for seed in (4, 5) for name in ("no_fs", "scalar_l1")]
    assert confirmations(world) == first + more
    seeds = {key: verdict.paired.n for key, verdict in standing.verdicts.items()}
    assert seeds == {
        (0, "scalar_l1"): 3,
        (0, "head_l1_trainable"): 5,
        (1, "scalar_l1"): 5,
        (1, "head_l1_trainable"): 3,
    }
    assert [board.top_up for board in standing.boards] == [{"head_l1_trainable"}, {"scalar_l1"}]


def test_the_words_are_those_of_the_two_looks() -> None:
    """The decided keep the word of the first look; the others are held against the second level, with the
    decided in the correction."""
    standing = world_of().run()
    order = [(0, "scalar_l1"), (0, "head_l1_trainable"), (1, "scalar_l1"), (1, "head_l1_trainable")]
    differences = [CLEAR, NOISE, LATE, CLEAR]
    first = verdicts([d[:3] for d in differences], 0.001, FIRST_LEVEL, provisional=False)
    assert undecided(first) == [False, True, True, False]
    mixed = [CLEAR[:3], NOISE, LATE, CLEAR[:3]]
    second = verdicts(mixed, 0.001, SECOND_LEVEL, provisional=False)
    expected = [first[0], second[1], second[2], first[3]]
    assert words(standing) == {key: verdict.word for key, verdict in zip(order, expected, strict=True)}
    for key, verdict in zip(order, expected, strict=True):
        found = standing.verdicts[key]
        assert found.level == verdict.level
        assert found.p_better == pytest.approx(verdict.p_better, rel=1e-6)
        assert not found.provisional
    assert words(standing)[1, "scalar_l1"] == "at_least_delta"
    assert words(standing)[0, "head_l1_trainable"] == "inconclusive"


def test_when_verdicts_are_provisional() -> None:
    """All are until the last search has its first seeds; then what is decided is final, and what gets more
    seeds has no verdict before it has them all, and a provisional one before the others have theirs."""
    world = world_of()
    seen: list[dict[tuple[int, str], tuple[str, bool]]] = []
    while True:
        standing = standing_of(world.plan, world.facts, world.record)
        said = {key: (verdict.word, verdict.provisional) for key, verdict in standing.verdicts.items()}
        if not seen or seen[-1] != said:
            seen.append(said)
        if standing.finished:
            break
        world.step()
    clear = "at_least_delta"
    assert seen[-1] == {
        (0, "scalar_l1"): (clear, False),
        (0, "head_l1_trainable"): ("inconclusive", False),
        (1, "scalar_l1"): (clear, False),
        (1, "head_l1_trainable"): (clear, False),
    }
    assert {(0, "scalar_l1"): (clear, False), (1, "head_l1_trainable"): (clear, False)} in seen
    assert {**seen[-1], (0, "head_l1_trainable"): ("inconclusive", True)}.items() >= seen[-2].items()
    early = [said for said in seen if (1, "head_l1_trainable") not in said]
    assert early and all(provisional for said in early for _, provisional in said.values())


def test_with_all_decided_nobody_gets_more() -> None:
    """The plan ends with three seeds."""
    world = world_of(dict.fromkeys(TABLE, CLEAR))
    standing = world.run()
    assert {seed for _, _, seed in confirmations(world)} == {1, 2, 3}
    assert {verdict.level for verdict in standing.verdicts.values()} == {FIRST_LEVEL}


def test_a_search_whose_further_baseline_fails_keeps_what_was_decided() -> None:
    """The failure is said; the undecided variant has no verdict; the other search goes on."""
    world = world_of()
    said = world.answer

    def answer(spec: AttemptSpec, number: int) -> Answer:
        lost = (spec.task, spec.variant, spec.role, spec.seed) == ("toy", "no_fs", "confirm", 4)
        return Answer("diverged", None, "loss is nan") if lost else said(spec, number)

    world.answer = answer
    standing = world.run()
    assert "seed 4" in standing.boards[0].failed
    assert set(words(standing)) == {(0, "scalar_l1"), (1, "scalar_l1"), (1, "head_l1_trainable")}


def test_a_top_up_under_another_fingerprint_begins_its_search_again() -> None:
    """Seeds of two machines are never put into one test; what had no top-up stays."""
    world = world_of()
    while len(confirmations(world)) < 19:  # one of the further baselines
        assert isinstance(world.step(), Run)
    world.environment = "another"
    standing = world.run()
    assert {pair.row.fingerprint for pair in standing.boards[0].variants[1].pairs} == {
        standing.boards[0].fingerprint
    }
    assert all(board.finished for board in standing.boards)
    again = [row.spec for row in world.rows if row.fingerprint == standing.boards[0].fingerprint]
    assert ("quick", "no_fs", 0) in {(spec.stage, spec.variant, spec.seed) for spec in again}
    assert len(trained(world)) > 23


def test_the_second_look_at_nothing_new_is_the_first() -> None:
    """Who failed on the way has no verdict; the others keep theirs."""
    first = verdicts([CLEAR[:3], NOISE[:3]], 0.001, FIRST_LEVEL, promoted=3, provisional=False)
    found = second_look(first, [CLEAR[:3], NOISE[:3]], [None, None], 0.001, promoted=3, provisional=False)
    assert found == [first[0], None]
