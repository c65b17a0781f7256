"""How many attempts a search takes, and where each of them stands."""

from __future__ import annotations

from collections import Counter

from fsearch.plan import expand
from fsearch.search.next_step import Standing, standing_of
from fsearch.ui.counts import Count, at_most, count
from fsearch.ui.rows import rows_of
from tests.search.builders import World, plan_of
from tests.search.test_top_up import world_of


def test_a_noise_floor_longer_than_the_confirmation_is_counted_and_placed() -> None:
    """Floor seeds beyond the confirmation's are baselines of the first stage like the others."""
    screen = {"prune_below": 0.1, "noise_floor_seeds": 5}
    world = World(plan_of(variants=["scalar_l1"], screen=screen))
    (search,) = expand(world.plan)
    confirmation = search.stages[-1].seeds or 0
    assert confirmation < 5
    assert at_most(search) == [1 + 1 + 5, 2 * confirmation]
    rows = rows_of(world.run(), world.facts, world.record)
    placed = Counter((row.stage, row.variant) for row in rows if row.trained)
    assert placed == {(search.stages[0].name, "no_fs"): 6, (search.stages[0].name, "scalar_l1"): 1}


def counts(world: World, standing: Standing) -> list[Count]:
    """Where each search stands."""
    rows = rows_of(standing, world.facts, world.record)
    return [
        count(board, [row for row in rows if row.search_index == index])
        for index, board in enumerate(standing.boards)
    ]


def test_a_top_up_is_counted_as_soon_as_it_is_known() -> None:
    """Before, a search may take five seeds of all; from then on exactly what it comes to. All rows have
    their place in the plan."""
    world = world_of()
    seen = []
    while not (standing := standing_of(world.plan, world.facts, world.record)).finished:
        seen.append((standing, counts(world, standing)))
        world.step()
    final = counts(world, standing)
    # 1 + 2 quick ones; 3 seeds of three; 2 further seeds of two.
    assert [one.done for one in final] == [3 + 9 + 4] * 2
    for before, found in seen:
        for board, one, end in zip(before.boards, found, final, strict=True):
            assert one.done <= one.expected <= 3 + 5 * 3
            if board.top_up:
                assert one.expected == end.done
    assert [one.expected for one in seen[0][1]] == [3 + 5 * 3] * 2
    rows = rows_of(standing, world.facts, world.record)
    assert len(rows) == len({row.attempt.spec.id for row in rows}) and not any(row.superseded for row in rows)
    late = [row for row in rows if row.attempt.spec.seed > 3]
    assert len(late) == 8 and all(row.d_acc is not None for row in late if row.variant != "no_fs")
