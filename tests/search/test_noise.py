"""What recorded baselines tell of the noise of a search that has not begun."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fsearch.plan import expand
from fsearch.search.noise import Noise, known_noise
from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.search.statistics import noise_sd

from .builders import Answer, World, plan_of

OWN = {1: 0.53, 2: 0.5, 0: 0.44}
OTHER = {0: 0.2, 1: 0.28}


def rows_of(scores: dict[int, float], **changes: Any) -> list[Attempt]:
    """The rows of a run whose quick baselines come to these scores by seed."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return Answer(score=scores[spec.seed] if spec.variant == "no_fs" else 0.9)

    known = {"screen": {"noise_floor_seeds": len(scores) - 1}, **changes}
    world = World(plan_of(**known), answer)
    while not any(row.spec.variant == "scalar_l1" and row.spec.role == "screen" for row in world.rows):
        world.step()
    return world.rows


def test_the_noise_of_the_search_itself_goes_first() -> None:
    """Its own spread, over all that other searches of the task say."""
    search = expand(plan_of())[0]
    rows = [*rows_of(OTHER, seed=5), *rows_of(OWN), *rows_of(OTHER, seed=6)]
    sd = noise_sd(list(OWN.values()))
    assert sd is not None
    assert known_noise(search, rows) == Noise(pytest.approx(sd), 3, True)


def test_else_that_of_its_like_is_pooled() -> None:
    """By degrees of freedom, each spread inside its own search: levels of two searches are not noise."""
    search = expand(plan_of(seed=9))[0]
    rows = [*rows_of(OTHER, seed=5), *rows_of(OWN)]
    one, two = noise_sd(list(OTHER.values())), noise_sd(list(OWN.values()))
    assert one is not None and two is not None
    pooled = math.sqrt((one**2 + 2 * two**2) / 3)
    assert known_noise(search, rows) == Noise(pytest.approx(pooled), 5, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": [{"name": "quick", "steps": 21}, {"name": "medium", "steps": 60, "seeds": 3}]},
        {"tasks": [{"task": "toy", "batch": 4, "level": 1}]},
        {"model": {"init": {"n_layer": 4, "n_embd": 32, "head_size": 8}}},
    ],
    ids=["steps", "arguments", "model"],
)
def test_nothing_is_known_from_searches_unlike(changes: dict[str, Any]) -> None:
    """Other steps, other examples, or another model have another noise."""
    assert known_noise(expand(plan_of(**changes))[0], rows_of(OWN)) is None


def test_one_baseline_tells_nothing() -> None:
    """Neither does no row at all."""
    search = expand(plan_of())[0]
    assert known_noise(search, rows_of({0: 0.5})) is None
    assert known_noise(search, []) is None
