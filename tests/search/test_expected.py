"""What is expected to come next while an attempt runs, against what then comes."""

from __future__ import annotations

from typing import Any

import pytest

from fsearch.search.board import Run
from fsearch.search.expected import GUESSED, expected_next
from fsearch.search.next_step import Done, next_step
from fsearch.search.rows import Attempt, AttemptSpec
from tests.search.builders import MEDIUM, QUICK, Answer, AnswerTo, World, plan_of, row, scores

NAMES = ["scalar_l1", "scalar_l2", "head_l1"]
TWO_TASKS = [{"task": "toy", "batch": 4}, {"task": "other", "batch": 4}]


def kept(spec: AttemptSpec, number: int) -> Answer:
    """Every variant is better than its baseline."""
    return Answer(score=0.25 if spec.variant == "no_fs" else 0.75, screen_score=0.5)


def guesses(world: World) -> list[tuple[str, AttemptSpec | None, AttemptSpec | None]]:
    """Of every attempt of a whole plan: its role, what was expected after it, and what came."""
    found: list[tuple[str, AttemptSpec | None]] = []
    came: list[AttemptSpec] = []
    while True:
        step = next_step(world.plan, world.facts, world.record, world.now_s)
        if isinstance(step, Done):
            break
        if isinstance(step, Run):
            came.append(step.spec)
            running = row(
                step.spec, None, try_number=step.try_number, fingerprint=world.fingerprint(step.spec)
            )
            found.append((step.spec.role, spec_after(world, running)))
        world.step()
    assert isinstance(step, Done)
    after = [*came[1:], None]
    return [(role, guess, then) for (role, guess), then in zip(found, after, strict=True)]


def spec_after(world: World, running: Attempt) -> AttemptSpec | None:
    """The guess, made on the record as it is while `running` runs; it leaves the record as it was."""
    record = world.record
    record.add(running)
    before = {identity: list(tries) for identity, tries in record.at_hand.items()}
    run = expected_next([world.plan], world.facts, record, running, {""}, world.now_s)
    assert {identity: list(tries) for identity, tries in record.at_hand.items()} == before
    return None if run is None else run.spec


@pytest.mark.parametrize(
    "changes",
    [
        {"variants": NAMES},
        {"variants": NAMES, "tasks": TWO_TASKS},
        {"variants": NAMES, "stages": [QUICK, {"name": "second", "steps": 40}, MEDIUM]},
        {"variants": NAMES, "screen": {"noise_floor_seeds": 3, "futility_look": 0.5}},
        {"variants": NAMES, "stages": [{"name": "only", "steps": 30, "seeds": 4}], "screen": None},
    ],
)
def test_where_variants_are_kept_every_guess_is_right(changes: dict[str, Any]) -> None:
    """Within a search the next attempt is known while one runs; over its border none is guessed."""
    found = guesses(World(plan_of(**changes), kept))
    assert sum(guess is not None for _, guess, _ in found) > len(found) / 2
    for role, guess, came in found:
        if guess is not None:
            assert role in GUESSED and guess == came
        elif role in GUESSED:
            assert came is None or came.role == "probe"


@pytest.mark.parametrize("answer", [scores({}), scores({("quick", "scalar_l2", 0): "diverged"})])
def test_a_wrong_guess_is_of_an_attempt_that_is_not_asked_for(answer: AnswerTo) -> None:
    """Ties are pruned: after the last variant a confirmation was expected, and the search has ended."""
    found = guesses(World(plan_of(variants=NAMES), answer))
    wrong = [(guess, came) for _, guess, came in found if guess is not None and guess != came]
    assert [(guess.role, came) for guess, came in wrong] == [("confirm", None)]


def test_nothing_is_guessed_behind_a_note() -> None:
    """The next search begins with a row that nobody trains, for a variant that does nothing."""
    tasks = [{"task": "toy", "batch": 4}, {"task": "other", "batch": 4}]
    found = guesses(World(plan_of(variants=["scalar_l1", "scalar_l9"], tasks=tasks), kept))
    before_a_probe = [guess for _, guess, came in found if came and came.role == "probe"]
    assert before_a_probe == [None]
