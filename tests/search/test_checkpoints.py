"""Plans that train from a checkpoint: it is inspected first, once, and what it is decides everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsearch.plan import Plan, expand, parse
from fsearch.search.ahead import next_preparation
from fsearch.search.board import Run, Wait
from fsearch.search.next_step import Done, facts_as_recorded, next_step, standing_of
from fsearch.search.rows import AttemptSpec
from fsearch.search.specs import inspect_spec, search_key

from .builders import OK, SCHEMAS, Answer, AnswerTo, World, model_fact, plan_of, trained

KEY = "/models/tiny.pth"
CHECKPOINT = {"model": {"checkpoint": KEY}}
TWO = [{"task": "toy", "batch": 4}, {"task": "other", "batch": 4}]


def inspections(*said: Answer) -> AnswerTo:
    """The tries of an inspection end as said, all after them and everything else complete."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        return said[number - 1] if spec.role == "inspect" and number <= len(said) else OK

    return answer


REFUSED = Answer("model_refused", None, "blocks.2.att.w1 is missing")


def test_a_checkpoint_is_inspected_once_for_all_searches() -> None:
    """Before anything is trained, and one row for both searches; the layers then name the no-ops."""
    world = World(plan_of(**CHECKPOINT, tasks=TWO, variants=["scalar_l1", "scalar_l3"]))
    step = world.step()
    assert isinstance(step, Run) and step.spec.role == "inspect"
    assert step.spec.model == {"checkpoint": KEY}
    standing = world.run()
    assert [known.spec.role for known in world.rows].count("inspect") == 1
    for board in standing.boards:
        assert board.search.model == {"checkpoint": f"sha {KEY}"}
        assert [(entry.variant.name, entry.exit) for entry in board.variants][1] == ("scalar_l3", "noop")
    assert ("quick", "scalar_l1", 0) in trained(world)


def test_plans_share_an_inspection() -> None:
    """A second plan of the same checkpoint asks for no other, nor does the same plan again."""
    world = World(plan_of(**CHECKPOINT))
    world.run()
    again = World(
        plan_of(**CHECKPOINT, name="again", variants=["head_l1_trainable"]),
        rows=list(world.rows),
        models=world.models,
    )
    again.run()
    assert {known.spec.role for known in again.rows[len(world.rows) :]} == {"probe", "screen"}
    assert inspect_spec(world.plan, "env").id == inspect_spec(again.plan, "env").id


def test_the_contents_decide_the_ids_and_not_the_place() -> None:
    """A moved file keeps its ids, a changed one gets new ones, and a model from scratch never has them."""

    def key(place: str, sha256: str) -> str:
        plan = plan_of(model={"checkpoint": place})
        return search_key(expand(plan, {place: model_fact(place, sha256=sha256)})[0])

    assert key("/a.pth", "one") == key("/b.pth", "one") == key("hf://o/r/a.pth", "one")
    assert len({key("/a.pth", "one"), key("/a.pth", "two"), search_key(expand(plan_of())[0])}) == 3


def test_a_refused_checkpoint_fails_every_search_with_its_reason() -> None:
    """Nothing is prepared or trained for it, and the plan ends; another daemon looks again."""
    world = World(plan_of(**CHECKPOINT, tasks=TWO), inspections(REFUSED), prepared=False)
    first = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(first, Run)
    world.attempt(first)
    assert next_preparation([world.plan], world.facts, world.record, world.now_s, downloads=False) is None
    done = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(done, Done)
    for board in done.standing.boards:
        assert board.finished and "model_refused" in board.failed and "blocks.2.att.w1" in board.failed
    looked_at = facts_as_recorded({}, {}, world.rows[-1].fingerprints)
    seen = standing_of(world.plan, replace(looked_at, environment=world.environment), world.record)
    assert [board.failed for board in seen.boards] == [board.failed for board in done.standing.boards]

    world.daemon = 2
    world.answer = inspections()
    standing = world.run()
    assert not any(board.failed for board in standing.boards)
    assert [known.try_number for known in world.rows if known.spec.role == "inspect"] == [1, 2]


def test_an_inspection_without_a_network_is_tried_again_later() -> None:
    """After its back-off; the wait says why."""
    offline = Answer("network_wait", None, "the hub could not be asked")
    world = World(plan_of(model={"checkpoint": "hf://o/r/f.pth"}), inspections(offline))
    world.step()
    step = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Wait) and step.until_s == world.now_s + 5.0 and "the hub" in step.why
    assert not any(board.failed for board in world.run().boards)


def test_a_checkpoint_that_changed_is_inspected_again() -> None:
    """Its fact is gone: the inspection that completed in this daemon does not stand for the new file."""
    world = World(plan_of(**CHECKPOINT))
    for _ in range(3):
        world.step()
    old = [known.spec.id for known in world.rows if known.spec.role == "screen"]
    world.models.clear()
    step = next_step(world.plan, world.facts, world.record, world.now_s)
    assert isinstance(step, Run) and (step.spec.role, step.try_number) == ("inspect", 2)
    world.models[KEY] = model_fact(KEY, sha256="another")
    standing = world.run()
    new = [known.spec.id for known in world.rows if known.spec.role == "screen"][len(old) :]
    assert old and new and not set(old) & set(new)
    assert standing.boards[0].search.model == {"checkpoint": "another"}


def test_a_vocabulary_that_is_too_small_fails_the_search_in_words() -> None:
    """The search says both numbers, and costs no process."""
    world = World(plan_of(**CHECKPOINT), models={KEY: model_fact(KEY, vocab_size=10)})
    (board,) = world.run().boards
    assert board.failed == "its data have token ids up to 10, but the checkpoint has a vocabulary of 10"
    assert world.rows == []


def test_layers_are_not_guessed() -> None:
    """Before its inspection a search has no number of layers, and asking for one is an error."""
    (search,) = expand(plan_of(**CHECKPOINT))
    assert search.n_layer is None
    with pytest.raises(ValueError, match=f"{KEY} is not inspected yet"):
        _ = search.layers


def test_a_relative_path_is_relative_to_the_plan_file() -> None:
    """One text in two folders means two files and is two plans; an address means the same everywhere."""

    def plan(file: str, checkpoint: str) -> Plan:
        text = plan_of(model={"checkpoint": checkpoint}).text
        return parse(text, SCHEMAS, file)

    here, there = plan("/plans/a/plan.yaml", "../m.pth"), plan("/plans/b/c/plan.yaml", "../m.pth")
    assert (here.checkpoint, there.checkpoint) == ("/plans/m.pth", "/plans/b/m.pth")
    assert here.id != there.id
    assert plan("/plans/a/plan.yaml", "/m.pth").id == plan("/b.yaml", "/m.pth").id
    address = "hf://o/r/m.pth"
    assert plan("/a.yaml", address).checkpoint == plan("/b/c.yaml", address).checkpoint == address
    assert plan_of().checkpoint is None
