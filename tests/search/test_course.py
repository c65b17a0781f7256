"""What another threshold would have cost and lost, against the protocol run with that threshold."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsearch.plan import Search
from fsearch.search.course import Course, Otherwise, courses
from fsearch.search.next_step import Standing
from fsearch.search.replay import Recorded, replay
from fsearch.search.rows import AttemptSpec

from .builders import MEDIUM, QUICK, Answer, AnswerTo, World, plan_of, scores
from .test_every_history import CHECKPOINT, plans

LATER = {"name": "second", "steps": 40}


def chance(seed: int) -> AnswerTo:
    """Scores that depend on the attempt alone; ties are frequent."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        rng = random.Random(f"{seed} {spec.id}")
        return Answer(score=rng.choice([rng.randrange(9) / 8, rng.random()]))

    return answer


def recorded(world: World, standing: Standing) -> list[Recorded]:
    """What the export says: a decision on every screened row, a verdict on all rows of a variant."""
    marks: dict[str, Any] = {}
    words: dict[str, str | None] = {}
    for board in standing.boards:
        for entry in board.variants:
            verdict = standing.verdicts.get((board.search.index, entry.variant.name))
            word = verdict.word if verdict else entry.exit
            for one in entry.screens:
                last = entry.promoted and one is entry.screens[-1]
                marks[one.row.spec.id] = "promote" if last else one.decision
                words[one.row.spec.id] = word
            words |= {pair.row.spec.id: word for pair in entry.pairs}
    return [
        Recorded(line=at, attempt=row, decision=marks.get(row.spec.id), verdict=words.get(row.spec.id))
        for at, row in enumerate(world.rows, 1)
    ]


def of(world: World, *, with_plan: bool) -> list[Course]:
    standing = world.run()
    searches = {board.search.label: board.search for board in standing.boards}
    rows = recorded(world, standing)

    def planned(spec: AttemptSpec) -> Search | None:
        return searches[spec.search] if with_plan else None

    return courses(rows, replay(rows, lambda spec: 0.0), planned)


def confirmations(world: World) -> list[AttemptSpec]:
    return [row.spec for row in world.rows if row.spec.role == "confirm"]


def better(standing: Standing) -> set[tuple[int, str]]:
    words = ("at_least_delta", "better_than_zero")
    return {key for key, verdict in standing.verdicts.items() if verdict.word in words}


@settings(max_examples=30, deadline=None)
@given(plans(), st.integers(0, 10**6), st.sampled_from([-0.5, -0.1, 0.05, 0.2, 0.4]))
def test_it_is_what_the_protocol_would_have_done(fields: dict[str, Any], seed: int, other: float) -> None:
    """The same plan is run with another threshold. Where the cost is said to be known it is the difference of
    both runs; the lost variants are those that were better and were not promoted there."""
    assume(len(fields["stages"]) > 1 and fields["model"] != {"checkpoint": CHECKPOINT})
    world = World(plan_of(**fields), chance(seed))
    again = World(plan_of(**{**fields, "screen": {**fields["screen"], "prune_below": other}}), chance(seed))
    went = of(world, with_plan=True)
    asked = [course.at(other) for course in went]
    standing, elsewhere = world.run(), again.run()
    promoted = {
        (board.search.index, entry.variant.name) for board in elsewhere.boards for entry in board.promoted
    }
    lost = better(standing) - promoted
    labels = {board.search.index: board.search.label for board in standing.boards}
    found = {(course.label, name) for course, one in zip(went, asked, strict=True) for name in one.lost}
    if world.plan.tops_up:
        assert found <= {(labels[index], name) for index, name in lost}
        changed = {course.label for course, one in zip(went, asked, strict=True) if one.attempts != 0}
        assert changed or promoted == {
            (board.search.index, entry.variant.name) for board in standing.boards for entry in board.promoted
        }
    elif len(fields["stages"]) == 2:
        assert all(one.attempts is not None and not one.at_most for one in asked)
        assert found == {(labels[index], name) for index, name in lost}
        more = len(confirmations(again)) - len(confirmations(world))
        assert sum(one.attempts or 0 for one in asked) == more
        steps = [sum(spec.steps for spec in confirmations(each)) for each in (world, again)]
        assert sum(one.steps or 0 for one in asked) == steps[1] - steps[0]
    for course, one in zip(went, asked, strict=True):
        assert not set(one.unknown) & set(course.confirmations)  # of these something is known


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_threshold_that_was_used_changes_nothing(seed: int) -> None:
    fields = {
        "variants": ["scalar_l1", "head_l1_trainable", "scalar_l2_nodetach"],
        "screen": {"prune_below": 0.1},
    }
    world = World(plan_of(**fields), chance(seed))
    for with_plan in (True, False):
        for course in of(world, with_plan=with_plan):
            assert course.at(0.1) == Otherwise(attempts=0, steps=0, at_most=False, lost=(), unknown=())


def three(prune_below: float, **screen: Any) -> World:
    """Three variants with quick differences 0.3, 0.2 and 0.05; on medium each gains 0.1, exactly."""
    quick = {"scalar_l1": 0.8, "head_l1_trainable": 0.7, "scalar_l2_nodetach": 0.55}
    table: dict[tuple[str, str, int], float | str] = {("quick", name, 0): at for name, at in quick.items()}
    for seed in (1, 2, 3):
        table |= {("medium", name, seed): 0.6 + 0.001 * seed for name in quick}
    fields = {"variants": list(quick), "screen": {"prune_below": prune_below, **screen}}
    return World(plan_of(**fields), scores(table))


def test_a_higher_threshold_by_hand() -> None:
    """0.25 leaves one of three variants: two times three attempts of 60 steps fewer, two gains lost."""
    (course,) = of(three(0.01), with_plan=False)
    assert course.at(0.25) == Otherwise(
        attempts=-6, steps=-360, at_most=False, lost=("head_l1_trainable", "scalar_l2_nodetach"), unknown=()
    )
    everything = course.at(0.4)  # and the three baselines
    assert (everything.attempts, everything.steps, len(everything.lost)) == (-12, -720, 3)


def test_a_lower_threshold_by_hand() -> None:
    """What was never confirmed costs more and is unknown; without the plan a limit may have left it out."""
    told = {with_plan: of(three(0.25), with_plan=with_plan)[0].at(0.1) for with_plan in (True, False)}
    wanted = {"attempts": 3, "steps": 180, "lost": (), "unknown": ("head_l1_trainable",)}
    assert told[True] == Otherwise(at_most=False, **wanted)
    assert told[False] == Otherwise(at_most=True, **wanted)


def test_a_limit_that_left_one_out_is_known() -> None:
    """Two survivors, one promoted: a lower threshold brings no other one, with or without the plan."""
    for with_plan in (True, False):
        (course,) = of(three(0.1, promote_at_most=1), with_plan=with_plan)
        assert course.at(0.01) == Otherwise(attempts=0, steps=0, at_most=False, lost=(), unknown=())


def test_nothing_was_confirmed() -> None:
    """Without the plan nobody can say how long a confirmation would have been; with it, baselines count."""
    (blind,) = of(three(0.4), with_plan=False)
    assert (blind.at(0.25).attempts, blind.at(0.25).steps) == (None, None)
    assert blind.at(0.25).unknown == ("scalar_l1",)
    (known,) = of(three(0.4), with_plan=True)
    assert (known.at(0.25).attempts, known.at(0.25).steps) == (6, 360)


def test_a_variant_that_never_reached_the_second_screen() -> None:
    """Its cost is not known: it would have been screened again first."""
    table: dict[tuple[str, str, int], float | str] = {
        ("quick", "scalar_l1", 0): 0.9,
        ("second", "scalar_l1", 0): 0.9,
        ("quick", "head_l1_trainable", 0): 0.55,
    }
    fields = {"stages": [QUICK, LATER, MEDIUM], "variants": ["scalar_l1", "head_l1_trainable"]}
    world = World(plan_of(**fields, screen={"prune_below": 0.1}), scores(table))
    for with_plan in (True, False):
        (course,) = of(world, with_plan=with_plan)
        assert (course.at(0.01).attempts, course.at(0.01).unknown) == (None, ("head_l1_trainable",))


def test_a_variant_that_failed_is_not_brought_back() -> None:
    """It was kept, but its second screen failed: no threshold changes that."""
    table: dict[tuple[str, str, int], float | str] = {
        ("quick", "scalar_l1", 0): 0.9,
        ("second", "scalar_l1", 0): "diverged",
    }
    fields = {"stages": [QUICK, LATER, MEDIUM], "variants": ["scalar_l1"]}
    (course,) = of(World(plan_of(**fields, screen={"prune_below": 0.1}), scores(table)), with_plan=True)
    assert course.at(0.0) == Otherwise(attempts=0, steps=0, at_most=False, lost=(), unknown=())
