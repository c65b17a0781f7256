"""How many attempts a search takes, and where each of them stands."""

from __future__ import annotations

from collections import Counter

from fsearch.plan import expand
from fsearch.ui.counts import at_most
from fsearch.ui.rows import rows_of
from tests.search.builders import World, plan_of


def test_a_noise_floor_longer_than_the_confirmation_is_counted_and_placed() -> None:
    """Floor seeds beyond the confirmation's are baselines of the first stage like the others."""
    screen = {"prune_below": 0.1, "noise_floor_seeds": 5}
    world = World(plan_of(variants=["scalar_l1"], screen=screen))
    (search,) = expand(world.plan)
    confirmation = search.stages[-1].seeds or 0
    assert confirmation < 5
    assert at_most(search) == [1 + 1 + 5, 2 * confirmation]
    rows = rows_of(world.run(), world.facts, world.rows)
    placed = Counter((row.stage, row.variant) for row in rows if row.trained)
    assert placed == {(search.stages[0].name, "no_fs"): 6, (search.stages[0].name, "scalar_l1"): 1}
