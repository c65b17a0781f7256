"""The rules on recorded rows: what is compared with what, and that a replay decides as the protocol did."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsearch.search.board import Board
from fsearch.search.next_step import Standing
from fsearch.search.outcomes import CLASSES
from fsearch.search.replay import BASELINE_FORM, UNMATCHED, Ambiguous, Recorded, Replayed, replay
from fsearch.search.rows import Attempt, AttemptSpec, Role

from .builders import World, plan_of
from .test_every_history import fate, plans

ROLES: dict[str, Role] = {"quick": "screen", "med": "confirm"}
PLACES = st.tuples(
    st.sampled_from(["hotpot", "mbpp"]),
    st.sampled_from([2, 4]),
    st.sampled_from([-1, 0, 1]),  # -1: no seed
    st.sampled_from(["quick", "med"]),
)
CONFIGS = st.sampled_from(["no_fs", "scalar_l8", "head_l8"])
SCORES = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5]), st.floats(0, 1))

Place = tuple[str, int, int, str]


def drafts(place: Place, config: str, score: float | None, line: int = 1) -> Recorded:
    """A row of the drafts; None for one that failed."""
    task, batch, seed, stage = place
    empty: dict[str, Any] = {"id": "", "plan": "", "search_key": "", "arguments": {}, "model": {}}
    empty |= {"recipe": {}, "micro_batch": 0, "steps": 0, "halves": (), "evaluate": {}, "master_seed": 0}
    spec = AttemptSpec(
        **empty,
        search=task,
        task=task,
        batch=batch,
        seed=seed,
        stage=stage,
        role=ROLES[stage],
        variant=config,
        form=BASELINE_FORM if config == "no_fs" else {"drafts": config},
    )
    outcome = "crashed" if score is None else "completed"
    attempt = Attempt(
        spec=spec,
        try_number=1,
        sequence=line,
        outcome=outcome,
        outcome_class=CLASSES[outcome],
        reason="out of memory" if score is None else "",
        score=score,
    )
    return Recorded(line=line, attempt=attempt, drafts=True)


RECORDS = st.dictionaries(st.tuples(PLACES, CONFIGS), SCORES, min_size=1).map(
    lambda cells: [
        drafts(place, config, score, line) for line, ((place, config), score) in enumerate(cells.items(), 1)
    ]
)


def below(threshold: float) -> Any:
    return lambda spec: threshold


def said(item: Replayed) -> tuple[Any, ...]:
    spec = item.row.attempt.spec
    place = (spec.task, spec.batch, spec.seed, spec.stage, spec.variant)
    return (*place, item.d_acc, item.decision, item.verdict, item.drafts_delta, item.reason)


@given(RECORDS, st.sampled_from([-0.25, 0.0, 0.001, 0.25]))
def test_nothing_is_compared_across_task_batch_seed_or_stage(rows: list[Recorded], threshold: float) -> None:
    """Every difference is that of the one baseline of the same place, found here by looking it up."""
    scores = {
        (row.attempt.spec.task, row.attempt.spec.batch, row.attempt.spec.seed, row.attempt.spec.stage): (
            row.attempt.score
        )
        for row in rows
        if row.attempt.spec.variant == "no_fs"
    }
    found = replay(rows, below(threshold))
    assert [item.row for item in found] == [row for row in rows if row.attempt.spec.variant != "no_fs"]
    for item in found:
        spec, score = item.row.attempt.spec, item.row.attempt.score
        base = scores.get((spec.task, spec.batch, spec.seed, spec.stage))
        quick = scores.get((spec.task, spec.batch, spec.seed, "quick"))
        if score is None or base is None:
            assert item.d_acc is None
            assert item.verdict == (UNMATCHED if spec.stage == "med" else None)
            assert item.decision == (None if spec.stage == "med" and score is not None else "failed")
            assert item.reason
        else:
            assert item.d_acc == score - base
            assert item.tie == (score == base)
            kept = score - base >= threshold and score != base
            wanted = ("keep" if kept else "prune") if spec.stage == "quick" else None
            assert (item.decision, item.verdict, item.reason) == (wanted, None, "")
        reported = None if score is None or quick is None or spec.stage == "quick" else score - quick
        assert item.drafts_delta == reported


@given(RECORDS, st.randoms(use_true_random=False))
def test_another_order_of_rows_changes_nothing(rows: list[Recorded], rng: random.Random) -> None:
    """Decisions are those of the rows, in whatever order they stand; the answer keeps the order asked in."""
    shuffled = rng.sample(rows, len(rows))
    found, again = replay(rows, below(0.001)), replay(shuffled, below(0.001))
    assert sorted(map(repr, map(said, found))) == sorted(map(repr, map(said, again)))
    assert [item.row for item in again] == [row for row in shuffled if row.attempt.spec.variant != "no_fs"]


@given(RECORDS, PLACES, CONFIGS, SCORES)
def test_a_row_of_another_place_changes_nothing(
    rows: list[Recorded], place: Place, config: str, score: float | None
) -> None:
    """What is said of a variant depends on the rows of its own task, batch and seed alone."""
    added = drafts((f"other {place[0]}", *place[1:]), config, score, len(rows) + 1)
    found = replay([*rows, added], below(0.001))
    assert [item for item in found if item.row is not added] == replay(rows, below(0.001))


def test_a_tie_is_pruned_at_any_threshold() -> None:
    """Also where the threshold would let a loss pass; and it is flagged."""
    place = ("hotpot", 2, 0, "quick")
    rows = [
        drafts(place, "no_fs", 0.5, 1),
        drafts(place, "scalar_l8", 0.5, 2),
        drafts(place, "head_l8", 0.4, 3),
    ]
    tie, loss = replay(rows, below(-0.2))
    assert (tie.tie, tie.decision) == (True, "prune")
    assert (loss.tie, loss.decision) == (False, "keep")


def test_two_baselines() -> None:
    """One that failed and was tried again, or was recorded twice, is one; two scores are a question."""
    place = ("mbpp", 2, 0, "quick")
    variant = drafts(place, "scalar_l8", 0.5, 9)
    failed, good, same = (drafts(place, "no_fs", score, at) for at, score in enumerate([None, 0.25, 0.25], 1))
    for rows in ([failed, good, same, variant], [good, failed, variant, same]):
        assert [item.d_acc for item in replay(rows, below(0.0))] == [0.25]
    other = drafts(place, "no_fs", 0.3, 7)
    with pytest.raises(Ambiguous, match="lines 2 and 7 are both the quick baseline of mbpp, batch 2"):
        replay([other, good, variant], below(0.0))


def test_a_failed_baseline_leaves_nothing_to_compare_with() -> None:
    """The reason is that of the baseline."""
    place = ("mbpp", 2, 0, "quick")
    (item,) = replay([drafts(place, "no_fs", None), drafts(place, "scalar_l8", 0.5)], below(0.0))
    assert (item.decision, item.reason) == ("failed", "no matched baseline: it failed (out of memory)")


def recorded(world: World) -> list[Recorded]:
    """The world's closing tries as an export has them."""
    last = {(row.spec.id, row.fingerprint): row for row in world.rows}
    return [Recorded(line=at, attempt=row) for at, row in enumerate(last.values(), 1)]


def thresholds(standing: Standing) -> Any:
    """What the plan says for each search."""
    of = {board.search.label: board.search.screen for board in standing.boards}

    def prune_below(spec: AttemptSpec) -> float:
        screen = of[spec.search]
        return screen.prune_below if screen else 0.0

    return prune_below


def decided(board: Board) -> dict[str, tuple[float, str | None]]:
    """By attempt id: the difference and, where a screen decided, its decision."""
    found: dict[str, tuple[float, str | None]] = {}
    for entry in board.variants:
        found |= {one.row.spec.id: (one.difference, one.decision) for one in entry.screens}
        found |= {pair.row.spec.id: (pair.difference, None) for pair in entry.pairs}
    return found


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]))
def test_a_replay_decides_as_the_protocol_did(fields: dict[str, Any], seed: int, trouble: float) -> None:
    """Over random plans and outcomes: the same rows are compared, with the same differences and decisions;
    what a look has stopped is pruned."""
    world = World(plan_of(**fields), fate(seed, trouble))
    standing = world.run()
    wanted: dict[str, tuple[float, str | None]] = {}
    stopped = set()
    for board in standing.boards:
        wanted |= decided(board)
        stopped |= {entry.stopped.spec.id for entry in board.variants if entry.stopped is not None}
    found = replay(recorded(world), thresholds(standing))
    assert {
        item.row.attempt.spec.id: (item.d_acc, item.decision) for item in found if item.d_acc is not None
    } == wanted
    pruned = {item.row.attempt.spec.id for item in found if item.d_acc is None and item.decision == "prune"}
    assert pruned == stopped


@settings(max_examples=40, deadline=None)
@given(plans(), st.integers(0, 10**6))
def test_the_drafts_delta_is_that_of_the_board(fields: dict[str, Any], seed: int) -> None:
    """Medium minus quick baseline, of the first confirmation seed."""
    world = World(plan_of(**fields), fate(seed, 0.0))
    standing = world.run()
    first = {
        entry.pairs[0].row.spec.id: entry.drafts_delta
        for board in standing.boards
        for entry in board.variants
        if entry.pairs and len(board.search.stages) == 2
    }
    rows = recorded(world)[::-1]  # baselines of the noise floor, on other seeds, come first then
    found = {item.row.attempt.spec.id: item.drafts_delta for item in replay(rows, below(0.0))}
    assert {identity: found[identity] for identity in first} == first


def test_a_running_attempt_is_not_a_failure() -> None:
    """Nothing is decided on it yet."""
    place = ("mbpp", 2, 0, "quick")
    row = drafts(place, "scalar_l8", None)
    running = replace(row, attempt=replace(row.attempt, outcome=None, outcome_class=None, reason=""))
    (item,) = replay([running], below(0.0))
    assert (item.decision, item.reason) == (None, "it has not ended")
