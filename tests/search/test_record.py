"""The record in memory: rows added one by one, rows found when asked for, boards that are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsearch.search.board import Record, Run, differences
from fsearch.search.next_step import Done, next_step, standing_of
from fsearch.search.rows import Attempt, AttemptSpec

from .builders import OK, Answer, World, plan_of
from .test_top_up import world_of


def history() -> World:
    """A whole search, promotions and seeds included, of which every attempt needed two tries."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        if number == 1:
            return Answer("crashed", None, "x")
        return Answer("completed", 0.5 + 0.1 * (spec.variant != "no_fs") + 0.001 * spec.seed)

    world = World(plan_of(), answer=answer)
    world.run()
    assert {row.try_number for row in world.rows} == {1, 2}
    assert "confirm" in {row.spec.role for row in world.rows}
    return world


def test_growing_row_by_row_gives_the_steps_of_all_rows_at_once() -> None:
    """At every moment of a history, begins included, a record that grew decides as one made of all rows."""
    world = history()
    grown = Record()
    for number, row in enumerate(world.rows, 1):
        grown.add(replace(row, outcome=None, outcome_class=None, score=None))
        next_step(world.plan, world.facts, grown, world.now_s)
        grown.add(row)
        at_once = Record(world.rows[:number])
        step = next_step(world.plan, world.facts, grown, world.now_s)
        assert step == next_step(world.plan, world.facts, at_once, world.now_s)
        assert standing_of(world.plan, world.facts, grown) == standing_of(world.plan, world.facts, at_once)
        assert grown.next_try_number(row.spec.id) == at_once.next_try_number(row.spec.id)
    assert isinstance(step, Done)


def test_rows_that_are_found_count_as_those_at_hand() -> None:
    """A record that begins empty and finds every row by its id decides the same, and asks once for each."""
    world = history()
    asked: list[str] = []

    def find(identity: str) -> list[Attempt]:
        asked.append(identity)
        return [row for row in world.rows if row.spec.id == identity]

    ids = list(dict.fromkeys(row.spec.id for row in world.rows))
    for number in range(len(ids) + 1):
        rows = [row for row in world.rows if row.spec.id in ids[:number]]
        asked.clear()
        lazy = Record(rows, find)
        whole = Record(world.rows)
        assert standing_of(world.plan, world.facts, lazy) == standing_of(world.plan, world.facts, whole)
        standing_of(world.plan, world.facts, lazy)
        assert len(asked) == len(set(asked)) and not {row.spec.id for row in rows} & set(asked)


def test_a_board_that_has_ended_is_kept_until_a_row_of_it_comes() -> None:
    """Nothing is walked again for rows of others; a row of its own, whoever asked for it, is taken in."""
    crashed = Answer("crashed", None, "x")
    world = World(plan_of(), answer=lambda spec, n: OK if spec.variant == "no_fs" else crashed)
    world.run()
    record = world.record
    first = standing_of(world.plan, world.facts, record).boards[0]
    assert first.finished and standing_of(world.plan, world.facts, record).boards[0] is first
    other = replace(world.rows[-1], spec=replace(world.rows[-1].spec, id="another"), sequence=10_000)
    record.add(other)
    assert standing_of(world.plan, world.facts, record).boards[0] is first
    failed = next(row for row in reversed(world.rows) if row.outcome == "crashed")
    again = replace(failed, try_number=failed.try_number + 1, sequence=10_001)
    record.add(replace(again, outcome="completed", outcome_class="result", score=0.9, loss=0.1))
    now = standing_of(world.plan, world.facts, record)
    assert now.boards[0] is not first
    step = next_step(world.plan, world.facts, record, world.now_s)
    assert isinstance(step, Run) or now.boards[0].variants != first.variants


def test_outlines_decide_as_whole_boards_do() -> None:
    """Over a plan with a top-up, row by row: the same steps and verdicts from a record that keeps no rows of
    what has ended, and the comparison of every row is there to be told when the row has come."""
    world = world_of()
    world.run()
    lean = Record((), lambda identity: [row for row in known if row.spec.id == identity], outlines=True)
    known: list[Attempt] = []
    told = 0
    for row in world.rows:
        known.append(row)
        lean.add(row)
        standing = standing_of(world.plan, world.facts, lean)
        whole = standing_of(world.plan, world.facts, Record(known))
        found, wanted = (
            [board for board in of.boards if row.spec.id in differences(board)] for of in (standing, whole)
        )
        assert [differences(board)[row.spec.id] for board in found] == [
            differences(board)[row.spec.id] for board in wanted
        ]
        told += len(found)
        assert standing.verdicts == whole.verdicts
        for _ in range(2):
            step = next_step(world.plan, world.facts, lean, world.now_s)
            assert isinstance(step, Done) or step == next_step(
                world.plan, world.facts, Record(known), world.now_s
            )
    assert isinstance(step, Done) and told == 4 + 3 * 4 + 2 * 2
    assert not lean.at_hand


@pytest.mark.parametrize("fingerprints", [["f1"], ["f1", "f2"], ["f2", "f1"]])
def test_what_an_attempt_was_tried_under_stands_in_order(fingerprints: list[str]) -> None:
    """Each once, the oldest first."""
    row = history().rows[0]
    rows = [
        replace(row, fingerprint=one, sequence=n, try_number=n)
        for n, one in enumerate(fingerprints + fingerprints, 1)
    ]
    assert Record(rows).fingerprints(row.spec.id) == fingerprints
