"""A plan that decides on another metric: the same rows, read otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fsearch.plan import expand, parse
from fsearch.search.next_step import standing_of
from fsearch.search.noise import known_noise
from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.search.screening import Unmatched, d_acc
from fsearch.search.specs import search_key, stage_spec
from tests.search import builders
from tests.search.builders import Answer, ToyArguments, World, plan_of, row, trained, words


class JudgedArguments(ToyArguments):
    """Of a task whose completions are judged."""

    def metrics(self, samples: int, *, executes: bool) -> Sequence[str]:
        return ("whole_answer", *(("works",) if samples else ()))


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(builders.SCHEMAS, "judged", JudgedArguments)


GENERATE: dict[str, Any] = {"generate": {"max_tokens": 8, "examples": 4}}
TASKS = [{"task": "judged", "batch": 4}]


def judged_plan(**changes: Any) -> Any:
    return plan_of(
        **{"tasks": TASKS, "evaluate": GENERATE, "variants": ["scalar_l1", "scalar_l2"], **changes}
    )


class JudgedWorld(World):
    """Rows get the metric `works` from a table by (variant, seed), beside their score."""

    works: dict[tuple[str, int], float | None]

    def write(self, spec: AttemptSpec, try_number: int, answer: Answer, fingerprint: str) -> None:
        super().write(spec, try_number, answer, fingerprint)
        if spec.role in ("screen", "confirm") and answer.outcome == "completed":
            value = self.works.get((spec.variant, spec.seed), 0.25)
            known = {} if value is None else {"works": value}
            why = {"works": "bubblewrap is not installed"} if value is None else {}
            halves = {"metrics": known, "screen_metrics": known if len(spec.halves) == 2 else {}}
            self.rows[-1] = replace(self.rows[-1], unavailable=why, **halves)


def world_of(plan: Any, works: dict[tuple[str, int], float | None]) -> JudgedWorld:
    world = JudgedWorld(plan, lambda spec, number: Answer(score=0.9 - 0.1 * (spec.variant != "no_fs")))
    world.works = works
    return world


def test_decisions_are_made_on_the_metric_of_the_plan() -> None:
    """A variant that is worse by its score and better by the metric is confirmed, the other one is not."""
    works: dict[tuple[str, int], float | None] = {("scalar_l1", 0): 0.75}
    works |= {("scalar_l1", seed): 0.5 + seed / 100 for seed in (1, 2, 3)}
    world = world_of(judged_plan(metric="works"), works)
    standing = world.run()
    assert ("medium", "scalar_l1", 3) in trained(world) and ("medium", "scalar_l2", 1) not in trained(world)
    (board,) = standing.boards
    kept, pruned = board.variants
    assert [one.difference for one in kept.screens] == [0.5]
    assert kept.differences == pytest.approx([0.26, 0.27, 0.28])
    assert pruned.exit == "pruned" and pruned.screens[0].tie
    assert kept.drafts_delta == 0.51 - 0.25
    assert words(standing) == {(0, "scalar_l1"): "at_least_delta"}
    assert all(one.row.metrics["score"] == 0.8 for one in kept.pairs)  # beside it, for the report

    other = world_of(judged_plan(), works)  # the same attempts, decided on their scores
    (board,) = other.run().boards
    assert [entry.exit for entry in board.variants] == ["pruned", "pruned"]
    assert {row.spec.id for row in other.rows} < {row.spec.id for row in world.rows}


def test_a_metric_that_is_unavailable_fails_the_search() -> None:
    """With the sentence that the row has; it is no zero, and no variant is trained in vain."""
    world = world_of(judged_plan(metric="works"), {("no_fs", 0): None})
    (board,) = world.run().boards
    assert board.finished and board.failed == (
        "the plan decides on works, which is unavailable for the quick attempt of no_fs, seed 0: bubblewrap "
        "is not installed"
    )
    assert [variant for _, variant, _ in trained(world)] == ["no_fs"]


def test_what_the_record_knows_of_a_metrics_noise() -> None:
    """It is of that metric, from rows with the same completions."""
    plan = judged_plan(metric="works", screen={"noise_floor_seeds": 2, "prune_below": 0.4})
    world = world_of(plan, {("no_fs", 1): 0.5, ("no_fs", 2): 0.75})
    world.run()
    (search,) = expand(plan)
    found = known_noise(search, world.rows)
    assert found is not None and found.sd == pytest.approx(2**0.5 * 0.25)
    other = judged_plan(metric="works", evaluate={"generate": {"max_tokens": 9}})
    assert known_noise(expand(other)[0], world.rows) is None


def test_what_is_in_ids() -> None:
    """How completions are generated is; the metric, and where they are tried on the way, are not."""

    def id_of(**changes: Any) -> str:
        (search,) = expand(judged_plan(**changes))
        return stage_spec(search, search.stages[0], None, 0, 4).id + search_key(search)

    same = [{}, {"metric": "works"}, {"metric": "whole_answer"}]
    same += [{"evaluate": {"generate": {"max_tokens": 8, "examples": 4, "at": [5]}}}]
    assert len({id_of(**changes) for changes in same}) == 1
    settings = [{"max_tokens": 8, "examples": 4}, {"max_tokens": 9, "examples": 4}, {"max_tokens": 8}]
    settings += [{"max_tokens": 8, "examples": 4, "temperature": 1.0}]
    settings += [{"max_tokens": 8, "examples": 4, "temperature": 1.0, "samples": 2}]
    ids = {id_of(evaluate={"generate": one}) for one in settings}
    assert len(ids | {id_of(evaluate=None)}) == len(settings) + 1


def test_steps_on_the_way_are_those_of_each_stage() -> None:
    """A stage has those before its own last step."""
    (search,) = expand(judged_plan(evaluate={"generate": {"max_tokens": 8, "at": [5, 20, 40]}}))
    found = [stage_spec(search, stage, None, 0, 4).evaluate["completions_at"] for stage in search.stages]
    assert found == [[5], [5, 20, 40]]


def test_rows_with_other_completions_do_not_match() -> None:
    """A difference between them cannot be formed."""

    def row_of(**changes: Any) -> Attempt:
        (search,) = expand(judged_plan(**changes))
        variant = None if changes else search.variants[0]
        return row(stage_spec(search, search.stages[0], variant, 0, 4), score=0.5)

    assert d_acc(row_of(), row_of(evaluate=GENERATE)) == 0.0
    with pytest.raises(Unmatched, match="differ in completions"):
        d_acc(row_of(), row_of(evaluate={"generate": {"max_tokens": 9, "examples": 4}}))


def test_a_recorded_plan_is_read_again() -> None:
    """By its text, with its metric."""
    plan = judged_plan(metric="works")
    again = parse(plan.text, builders.SCHEMAS)
    assert again.id == plan.id and expand(again)[0].metric == "works"
    world = world_of(plan, {})
    world.run()
    assert standing_of(again, world.facts, world.record).finished
