"""What fails ends as little as possible, says why, and holds nobody else up."""

from __future__ import annotations

import pytest

from fsearch.plan import expand
from fsearch.search.ahead import next_preparation
from fsearch.search.board import Note, Record, Run, Wait
from fsearch.search.ids import data_key
from fsearch.search.next_step import next_step, standing_of
from fsearch.search.rows import AttemptSpec

from .builders import OK, Answer, World, data_fact, plan_of, scores, trained, words

TWO = [{"task": "toy", "batch": 4}, {"task": "other", "batch": 4}]
GAIN: dict[tuple[str, str, int], float | str] = {
    ("quick", name, 0): 0.75 for name in ("scalar_l1", "head_l1_trainable", "scalar_l2")
}


def local(world: World, later_s: float = 0.0) -> Run | None:
    """What would be prepared next of what needs no network."""
    return next_preparation([world.plan], world.facts, world.record, world.now_s + later_s, downloads=False)


def failing(role: str, task: str, *said: Answer) -> World:
    """Two searches; the tries of one role of one task end as said, all after them complete."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        here = spec.role == role and spec.task in (task, "")
        return said[number - 1] if here and number <= len(said) else OK

    return World(plan_of(tasks=TWO), answer, prepared=False)


def test_data_that_cannot_be_built_fail_their_search_alone() -> None:
    """`data_short` is final; the search says so with its counts, and the other one is done."""
    world = failing("prepare", "toy", Answer("data_short", None, "374 of 900 examples"))
    boards = world.run().boards
    assert (
        "data" in boards[0].failed and "374 of 900" in boards[0].failed and "data_short" in boards[0].failed
    )
    assert boards[0].finished and boards[1].failed == ""
    assert {known.spec.task for known in world.rows if known.spec.role == "screen"} == {"other"}
    assert sum(known.spec.role == "prepare" and known.spec.task == "toy" for known in world.rows) == 1


def test_a_search_whose_data_are_not_ready_lets_the_next_go_first() -> None:
    """While one search waits for its data the other trains; then the first has its turn."""
    plan = plan_of(tasks=TWO)
    first, second = expand(plan)
    world = World(plan, scores({}))
    key = data_key(first.task, first.arguments, first.master_seed)
    late = world.data.pop(key)
    ran = []
    for _ in range(3):
        step = next_step(plan, world.facts, world.record, world.now_s)
        assert isinstance(step, Run) and step.spec.search == second.label
        ran.append(step.spec)
        world.attempt(step)
    step = next_step(plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Wait) and step.until_s is None
    assert step.why.startswith("toy") and "data" in step.why
    assert not standing_of(plan, world.facts, world.record).finished
    world.data[key] = late
    step = next_step(plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Run) and step.spec.search == first.label
    assert world.run().finished


def test_a_ready_search_goes_first_in_the_order_of_the_plan() -> None:
    """With all data there, the second search starts when the first has ended."""
    world = World(plan_of(tasks=TWO), scores({}))
    world.run()
    assert [known.spec.task for known in world.rows] == ["toy"] * 3 + ["other"] * 3


def test_data_are_prepared_in_the_order_of_the_plan_and_once() -> None:
    """One preparation a data set, though two searches share it; nothing to prepare is None."""
    plan = plan_of(tasks=[{"task": "toy", "batch": [2, 4]}, {"task": "other", "batch": 4}])
    world = World(plan, scores({}), prepared=False)
    world.run()
    prepared = [known.spec.task for known in world.rows if known.spec.role == "prepare"]
    assert prepared == ["toy", "other"]
    assert local(world) is None


def test_a_preparation_that_fails_is_tried_again_later() -> None:
    """After its back-off, not before, and after what was never tried."""
    plan = plan_of(tasks=TWO)
    world = World(plan, scores({}), prepared=False)
    first = local(world)
    assert first and (first.spec.task, first.try_number) == ("toy", 1)
    world.write(first.spec, 1, Answer("disk_full", None, "no space left"), world.environment)
    second = local(world, 4.9)
    assert second and second.spec.task == "other"
    step = next_step(plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Wait) and step.until_s == world.now_s + 5.0
    assert step.why == "waiting for the data of toy: no space left"
    assert step.told(world.now_s + 1.0) == f"{step.why}; next try in 4 s"
    world.write(second.spec, 1, OK, world.environment)
    world.data[data_key("other", second.spec.arguments, 0)] = data_fact("other")
    assert local(world, 4.9) is None
    again = local(world, 5.0)
    assert again and (again.spec.id, again.try_number) == (first.spec.id, 2)


def test_data_that_are_lost_are_prepared_again() -> None:
    """A preparation that once completed does not stand for data that are not there."""
    world = World(plan_of(), scores({}), prepared=False)
    world.step()
    world.data.clear()
    again = local(world)
    assert again and again.try_number == 2


@pytest.mark.parametrize(
    ("stage", "seed", "word"), [("quick", 0, "diverged"), ("medium", 1, "oom"), ("medium", 3, "crashed")]
)
def test_a_baseline_that_fails_fails_its_search(stage: str, seed: int, word: str) -> None:
    """Without its baseline nothing can be compared: no verdict, and the sentence names the baseline."""
    world = World(plan_of(tasks=TWO), scores({**GAIN, (stage, "no_fs", seed): word}))
    standing = world.run()
    for board in standing.boards:
        assert board.finished
        assert f"the {stage} baseline of seed {seed}" in board.failed and word in board.failed
    assert standing.verdicts == {}
    assert trained(world)[-1] == (stage, "no_fs", seed)


@pytest.mark.parametrize(
    ("stage", "seed", "word"),
    [("quick", 0, "diverged"), ("quick", 0, "oom"), ("medium", 2, "crashed"), ("medium", 3, "host_oom")],
)
def test_a_variant_that_fails_leaves_alone(stage: str, seed: int, word: str) -> None:
    """It gets no verdict and trains no further seed; the others go on to theirs."""
    plan = plan_of(variants=["scalar_l1", "head_l1_trainable"])
    world = World(plan, scores({**GAIN, (stage, "scalar_l1", seed): word}))
    standing = world.run()
    failed, other = standing.boards[0].variants
    assert failed.exit == "failed" and other.exit is None
    assert f"{stage} seed {seed}" in failed.reason and word in failed.reason
    assert set(words(standing)) == {(0, "head_l1_trainable")}
    later = [s for at, name, s in trained(world) if name == "scalar_l1" and at == "medium"]
    assert set(later) == ({*range(1, seed + 1)} if stage == "medium" else set())


def test_an_attempt_that_waits_lets_the_next_search_go_first() -> None:
    """A full disk under one search's attempt holds up that search, and it goes on where it was."""
    full = Answer("disk_full", None, "no space left on device")

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return full if (spec.task, spec.role, number) == ("toy", "screen", 1) else OK

    world = World(plan_of(tasks=TWO), answer)
    steps = [world.step() for _ in range(7)]
    assert [isinstance(step, Wait) for step in steps] == [False] * 5 + [True, False]
    assert [(r.spec.task, r.spec.role, r.outcome) for r in world.rows] == [
        ("toy", "probe", "completed"),
        ("toy", "screen", "disk_full"),
        ("other", "probe", "completed"),
        ("other", "screen", "completed"),
        ("other", "screen", "completed"),
        ("toy", "screen", "completed"),
    ]
    assert world.rows[5].spec.id == world.rows[1].spec.id and world.rows[5].try_number == 2
    assert world.run().finished


def test_of_two_waits_the_shorter_is_told() -> None:
    """The daemon sleeps until the first of them ends."""
    world = World(plan_of(tasks=TWO), lambda spec, number: Answer("disk_full", None, "full"))
    first, second = world.step(), world.step()
    assert isinstance(first, Run) and isinstance(second, Run)
    assert (first.spec.task, second.spec.task) == ("toy", "other")
    step = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Wait)
    assert step.until_s == world.rows[0].ended_monotonic_s + 5.0


def test_a_kernel_that_is_not_built_is_built_first() -> None:
    """Nothing trains before; a failing build is tried again after its back-off."""
    world = World(plan_of(), scores({}), backend="")
    step = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Run) and step.spec.role == "build"
    failed = Answer("disk_full", None, "no space left on device")
    world.write(step.spec, 1, failed, world.environment)
    wait = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(wait, Wait) and wait.until_s == world.now_s + 5.0 and "no space" in wait.why
    again = next_step(world.plan, world.facts, world.record, world.now_s + 5.0)
    assert isinstance(again, Run) and (again.spec.id, again.try_number) == (step.spec.id, 2)


def test_a_no_op_is_noted_once_under_all_fingerprints() -> None:
    """After an update nothing asks to write the same row again."""
    plan = plan_of(variants=["scalar_l9", "scalar_l1"])
    world = World(plan, scores({}))
    assert isinstance(world.step(), Note)
    world.environment = "updated"
    world.run()
    assert sum(known.spec.variant == "scalar_l9" for known in world.rows) == 1


def test_a_finished_search_stays_under_its_fingerprint() -> None:
    """After an update a finished plan is done, with the verdicts it had; nothing is trained again."""
    world = World(plan_of(), scores(GAIN))
    before = world.run()
    rows = len(world.rows)
    world.environment = "updated"
    after = world.run()
    assert len(world.rows) == rows
    assert after.verdicts == before.verdicts and len(after.verdicts) == 1


def test_an_unfinished_search_begins_again_after_an_update() -> None:
    """From its probe; its old rows are kept and no longer used, and tries are numbered on."""
    world = World(plan_of(), scores(GAIN))
    for _ in range(4):
        world.step()
    old = list(world.rows)
    world.environment = "updated"
    board = world.run().boards[0]
    new = world.rows[len(old) :]
    assert [known.spec.id for known in new[:4]] == [known.spec.id for known in old]
    assert {known.try_number for known in new[:4]} == {2}
    assert {known.fingerprint for known in board.baselines.values()} == {new[0].fingerprint}
    assert new[0].fingerprint != old[0].fingerprint


def test_the_same_rows_in_another_order_say_the_same() -> None:
    """A record is a set of rows: their sequence numbers order them."""
    world = World(plan_of(variants=["scalar_l1", "head_l1_trainable"]), scores(GAIN))
    for _ in range(6):
        world.step()
    steps = [
        next_step(world.plan, world.facts, Record(rows), world.now_s)
        for rows in (world.rows, world.rows[::-1])
    ]
    assert isinstance(steps[0], Run) and steps[0] == steps[1]
