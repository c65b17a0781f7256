"""A network that fails: it is waited out, up to the plan's limit, and keeps nothing else waiting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from fsearch.plan import Limits, Plan
from fsearch.search.ahead import next_preparation
from fsearch.search.board import Wait
from fsearch.search.ids import data_key
from fsearch.search.next_step import Done, facts_as_recorded, next_step, standing_of
from fsearch.search.outcomes import Closed, Open, standing
from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.search.specs import stage_spec

from .builders import OK, Answer, AnswerTo, World, data_fact, plan_of, row, search_of

SEARCH = search_of()
SPEC = stage_spec(SEARCH, SEARCH.stages[0], None, 0, 4)
FOREVER, MINUTE = Limits(), Limits(wait_network=60.0)
OFFLINE = Answer("network_wait", None, "the connection was reset.")
HUB = {"task": "hub", "batch": 4}
TWO = [HUB, {"task": "toy", "batch": 4}]


def missed(*ended_s: float, daemon: str = "d1", first: int = 1, **fields: Any) -> list[Attempt]:
    """Tries that found no network, by when they ended on the clock of their daemon."""
    known = {"reason": "no route", "daemon": daemon, **fields}
    return [
        row(SPEC, "network_wait", try_number=n, sequence=n, ended_monotonic_s=at, **known)
        for n, at in enumerate(ended_s, start=first)
    ]


def away(*words: str, task: str = "hub", role: str = "prepare") -> AnswerTo:
    """The tries of one task's preparation end with these words, all after them and all else complete."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        here = spec.role == role and spec.task in (task, "") and number <= len(words)
        return replace(OFFLINE, outcome=words[number - 1]) if here else OK

    return answer


def prepared(world: World) -> list[tuple[str, str | None]]:
    """What was prepared, in order: the level of the data set and the outcome."""
    return [(r.spec.arguments["level"], r.outcome) for r in world.rows if r.spec.role == "prepare"]


# One attempt


@pytest.mark.parametrize("tries", [1, 2, 7, 1000, 3000])
def test_without_a_limit_it_is_tried_for_ever(tries: int) -> None:
    """Not counted as a retry; with the usual back-off."""
    rows = missed(*(1000.0 * n for n in range(1, tries + 1)))
    state = standing(rows, Limits(retries=0), "d1")
    pause_s = {1: 5.0, 2: 10.0}.get(tries, 300.0)
    assert state == Open(tries + 1, 1000.0 * tries + pause_s, "no route")


def test_it_uses_up_none_of_the_retries() -> None:
    """A host out of memory between two outages is the first of its kind, and is waited for as the first."""
    rows = [*missed(1.0, 9.0), row(SPEC, "host_oom", try_number=3, ended_monotonic_s=20.0, reason="full")]
    assert standing(rows, Limits(retries=1), "d1") == Open(4, 25.0, "full")
    assert standing(rows, Limits(retries=0), "d1") == Closed(rows[-1], used_up=True)
    rows += missed(50.0, first=4)
    assert standing(rows, Limits(retries=1), "d1") == Open(5, 55.0, "no route")


def test_the_limit_runs_from_the_first_failure_to_a_last_try() -> None:
    """At 100 s no network; until 160 s it is tried; what then fails is the end, and says how long it was."""
    assert standing(missed(100.0), MINUTE, "d1") == Open(2, 105.0, "no route")
    rows = missed(100.0, 106.0, 117.0, 138.0)
    assert standing(rows, MINUTE, "d1") == Open(5, 160.0, "no route")  # the back-off would end at 178 s
    assert standing(rows, FOREVER, "d1") == Open(5, 178.0, "no route")
    rows += missed(183.0, first=5)
    assert standing(rows, MINUTE, "d1") == Closed(rows[-1], used_up=True, waited_s=83.0)
    early = [*rows[:-1], replace(rows[-1], ended_monotonic_s=159.5)]
    assert standing(early, MINUTE, "d1") == Open(6, 160.0, "no route")


def test_no_time_to_wait_is_one_try() -> None:
    """`wait_network: 0`."""
    rows = missed(7.0)
    assert standing(rows, Limits(wait_network=0.0), "d1") == Closed(rows[0], used_up=True, waited_s=0.0)


def test_a_server_that_says_when_is_believed() -> None:
    """Not before its Retry-After, even under a longer back-off; but never beyond the limit."""
    rows = missed(100.0, retry_after_s=40.0)
    assert standing(rows, FOREVER, "d1") == Open(2, 140.0, "no route")
    assert standing(missed(100.0, retry_after_s=2.0), FOREVER, "d1") == Open(2, 105.0, "no route")
    assert standing(missed(100.0, retry_after_s=900.0), MINUTE, "d1") == Open(2, 160.0, "no route")


def test_another_failure_between_begins_the_count_again() -> None:
    """The limit and the back-off are those of one outage."""
    rows = [*missed(100.0, 130.0), row(SPEC, "crashed", try_number=3, ended_monotonic_s=150.0)]
    rows += missed(200.0, first=4)
    assert standing(rows, MINUTE, "d1") == Open(5, 205.0, "no route")


def test_every_daemon_waits_anew() -> None:
    """Its clock and its patience are its own; who only looks sees what the last one has seen."""
    rows = missed(100.0, 170.0)
    closed = Closed(rows[-1], used_up=True, waited_s=70.0)
    assert standing(rows, MINUTE, "d1") == closed == standing(rows, MINUTE, "")
    assert standing(rows, MINUTE, "d2") == Open(3, 0.0, "no route")
    rows += missed(3.0, daemon="d2", first=3)
    assert standing(rows, MINUTE, "d2") == Open(4, 8.0, "no route")


def test_a_running_try_is_awaited() -> None:
    """The last try at the limit is not the end while it runs."""
    rows = [*missed(100.0, 155.0), row(SPEC, None, try_number=3)]
    assert standing(rows, MINUTE, "d1") == Open(4)


# A plan


def test_an_outage_keeps_nothing_else_waiting() -> None:
    """Data that need no network are prepared and trained on meanwhile; then the plan is finished."""
    world = World(plan_of(tasks=TWO), away(*["network_wait"] * 4), prepared=False)
    standing = world.run()
    assert not any(board.failed for board in standing.boards)
    roles = [(known.spec.task, known.spec.role) for known in world.rows]
    assert roles.index(("toy", "screen")) < roles.index(("hub", "probe"))
    tries = [known for known in world.rows if known.spec.task == "hub" and known.spec.role == "prepare"]
    assert [known.outcome for known in tries] == ["network_wait"] * 4 + ["completed"]


def test_what_is_waited_for_is_said() -> None:
    """The data set, why, and how long yet."""
    world = World(plan_of(tasks=[HUB]), away("network_wait"), prepared=False)
    world.step()
    step = next_step(world.plan, world.facts, world.record, world.now_s + 1.0)
    assert isinstance(step, Wait) and step.until_s == world.now_s + 5.0
    assert step.why == "waiting for owner/rows0: the connection was reset"
    assert step.told(world.now_s + 1.0) == f"{step.why}; next try in 4 s"
    world.write(world.rows[0].spec, 2, Answer("completed"), world.environment)
    world.rows[-1] = replace(world.rows[-1], outcome=None, outcome_class=None)
    step = next_step(world.plan, world.facts, world.record, world.now_s)
    assert step == Wait(None, "hub: its data are being prepared")


def test_at_the_limit_the_search_is_given_up_and_the_rest_goes_on() -> None:
    """It says how long was waited, for what, and what to do; the next daemon asks again."""
    plan = plan_of(tasks=TWO, limits={"wait_network": 3})
    world = World(plan, away(*["network_wait"] * 99), prepared=False)
    hub, toy = world.run().boards
    assert toy.finished and not toy.failed and toy.outage is None
    assert hub.outage is not None and hub.outage.what == "owner/rows0"
    assert 3.0 <= hub.outage.waited_s < 5.0
    assert (
        "(network_wait): owner/rows0 was waited for in vain for 4 s: the connection was reset. Start"
        in hub.failed
    )
    assert "limits.wait_network" in hub.failed
    looked_at = replace(facts_as_recorded(world.data, {}, {}), environment=world.environment)
    seen = standing_of(plan, looked_at, world.record)
    assert (seen.boards[0].failed, seen.boards[0].outage) == (hub.failed, hub.outage)

    world.daemon, world.now_s, world.answer = 2, 1.0, away("network_wait")
    assert isinstance(next_step(plan, world.facts, world.record, world.now_s), Wait)
    assert not any(board.failed for board in world.run().boards)


def test_a_checkpoint_is_waited_for_alike() -> None:
    """Its searches are given up at the limit, and asked for again by the next daemon."""
    address = "hf://o/r/f.pth"
    plan = plan_of(model={"checkpoint": address}, limits={"wait_network": 20})
    world = World(plan, away(*["network_wait"] * 99, role="inspect"))
    (board,) = world.run().boards
    assert board.outage is not None and board.outage.what == address and board.outage.waited_s >= 20.0
    assert address in board.failed and "model" in board.failed
    world.daemon, world.answer = 2, away(role="inspect")
    assert not world.run().boards[0].failed


# Which data set is next


def due(world: World, kind: Literal["local", "download"], plans: list[Plan] | None = None) -> str:
    """The task and level that would be prepared next; "" for none."""
    found = next_preparation(
        plans or [world.plan], world.facts, world.record, world.now_s, downloads=kind == "download"
    )
    return f"{found.spec.task} {found.spec.arguments['level']}" if found else ""


def finish(world: World, kind: Literal["local", "download"], answer: Answer, plans: list[Plan]) -> str:
    """Let what is next end like this, after 600 s if it is a failure; gives what it was."""
    found = next_preparation(plans, world.facts, world.record, world.now_s, downloads=kind == "download")
    assert found is not None
    world.now_s += 0.0 if answer is OK else 600.0  # longer than every back-off
    world.write(found.spec, found.try_number, answer, world.environment)
    return f"{found.spec.task} {found.spec.arguments['level']}"


def test_each_kind_has_its_own_turn() -> None:
    """What is downloaded and what is not are asked for apart, each in the plan's order."""
    tasks = [{**HUB, "level": level} for level in (1, 2)] + [{"task": "toy", "batch": 4, "level": 3}]
    world = World(plan_of(tasks=tasks), prepared=False)
    assert (due(world, "local"), due(world, "download")) == ("toy 3", "hub 1")
    search = world.plan.entries[2]
    world.data[data_key("toy", search.arguments, 0)] = data_fact("toy")
    assert (due(world, "local"), due(world, "download")) == ("", "hub 1")


def test_a_hub_that_hangs_for_one_data_set_gives_the_others_their_turn() -> None:
    """Each try outlasts every back-off, so all are due at once: they go round, over all plans."""
    one = plan_of(tasks=[{**HUB, "level": level} for level in (1, 2)])
    two = plan_of(tasks=[{**HUB, "level": 3}], seed=0)
    world = World(one, prepared=False)
    order = [finish(world, "download", OFFLINE, [one, two]) for _ in range(7)]
    assert order == ["hub 1", "hub 2", "hub 3"] * 2 + ["hub 1"]
    world.daemon = 2
    assert due(world, "download", [one, two]) == "hub 1"  # a new daemon begins with the plan's order


@pytest.mark.parametrize("word", ["data_short", "data_refused", "crashed"])
def test_what_failed_for_good_is_asked_again_by_the_next_daemon(word: str) -> None:
    """The cause may be mended by then; within one daemon it stays as it is."""
    tries = 2 if word == "crashed" else 1
    world = World(plan_of(tasks=[HUB]), away(*[word] * tries), prepared=False)
    (board,) = world.run().boards
    assert word in board.failed and board.outage is None
    assert due(world, "download") == ""
    assert isinstance(next_step(world.plan, world.facts, world.record, world.now_s), Done)
    world.daemon = 2
    assert due(world, "download") == "hub 0"
    world.answer = away()
    assert not world.run().boards[0].failed
    assert [known.try_number for known in world.rows if known.spec.role == "prepare"] == [
        *range(1, tries + 2)
    ]


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("data_short", ""),
        ("data_refused", " Once that is mended, start again."),
        ("disk_refused", " Once that is mended, start again."),
    ],
)
def test_a_search_without_data_says_what_to_do(word: str, remedy: str) -> None:
    """The outcome, its reason, and what a person can do after it; the other search is done."""
    plan = plan_of(tasks=TWO, limits={"retries": 0})
    world = World(plan, away(word), prepared=False)
    hub, toy = world.run().boards
    assert hub.failed == f"the data could not be prepared ({word}): the connection was reset.{remedy}"
    assert toy.finished and not toy.failed


def test_a_plan_run_to_its_end_asks_for_nothing() -> None:
    """Data that were prepared once are not asked for by another daemon."""
    world = World(plan_of(tasks=[HUB]), prepared=False)
    world.run()
    world.daemon = 2
    assert due(world, "download") == due(world, "local") == ""
    assert isinstance(next_step(world.plan, world.facts, world.record, world.now_s), Done)
    assert prepared(world) == [(0, "completed")]
