"""What a plan may ask of completions and of its metric, and what is said where it cannot be had."""

from __future__ import annotations

import pytest

from fsearch.plan import PlanError, decidable, expand
from fsearch.tasks import create
from tests.plan.plan_texts import GOOD, edit, line_of, read

TASK = "  - {task: mbpp, source: offline, batch: 4}\n"
PLAN = (
    GOOD[: GOOD.index("tasks:")]
    + "evaluate: {every: 50, "
    + "generate: {max_tokens: 64, temperature: 0.8, samples: 5, examples: 20, at: [100]}, code_exec: bwrap}\n"
    + "metric: pass_at_5\ntasks:\n"
    + TASK
)


def test_a_plan_with_all_of_it() -> None:
    """What decides a result is in the completions; the metric is not, nor where they are tried on the way."""
    plan = read(PLAN)
    (search,) = expand(plan)
    assert search.completions == {
        "max_tokens": 64,
        "temperature": 0.8,
        "samples": 5,
        "examples": 20,
        "code_exec": "bwrap",
    }
    assert (search.completions_at, search.metric) == ((100,), "pass_at_5")
    names = ["score", "whole_answer", "exact_match", "exec_ok", "tests_passed", "pass_at_1", "pass_at_5"]
    assert decidable(create("mbpp", {}).arguments, plan.entries[0].evaluate) == names
    others = [
        edit("metric: pass_at_5", "metric: pass_at_1", PLAN),
        edit("samples: 5", "samples: 6", edit("metric: pass_at_5", "metric: pass_at_1", PLAN)),
        edit("code_exec: bwrap", "code_exec: unsafe", PLAN),
    ]
    assert len({read(text).id for text in [PLAN, *others]}) == 4


def test_what_a_task_has_no_use_for() -> None:
    """Nothing is run of a task without programs, so that its ids do not depend on how it would be."""
    text = edit(TASK, "  - {task: squad, source: offline, batch: 4, metric: f1}\n", PLAN)
    (search,) = expand(read(text))
    assert search.completions["code_exec"] == "off" and search.metric == "f1"


def test_each_task_for_itself() -> None:
    """A task may ask for other completions, or none, and decide on another metric."""
    more = "  - {task: sudoku, batch: 4, metric: solved, evaluate: {generate: {max_tokens: 20}}}\n"
    more += "  - {task: infill, batch: 4, metric: whole_answer, evaluate: {every: 10}}\n"
    searches = expand(read(PLAN + more))
    assert [search.metric for search in searches] == ["pass_at_5", "solved", "whole_answer"]
    assert [search.completions.get("max_tokens") for search in searches] == [64, 20, None]
    assert searches[1].completions["examples"] is None and searches[2].every == 10


@pytest.mark.parametrize(
    ("old", "new", "at", "field", "words"),
    [
        (
            "temperature: 0.8",
            "temperature: 0",
            "{max",
            "evaluate.generate",
            "all 5 samples are one completion",
        ),
        ("max_tokens: 64, ", "", "{temp", "evaluate.generate", "the field 'max_tokens' is missing"),
        ("samples: 5", "sample: 5", "sample: 5", "evaluate.generate.sample", "did you mean"),
        (
            "temperature: 0.8",
            "temperature: -1",
            "-1",
            "evaluate.generate.temperature",
            "greater than or equal",
        ),
        ("examples: 20", "examples: 0", "0, at", "evaluate.generate.examples", "greater than or equal to 1"),
        ("at: [100]", "at: [560]", "[560]", "evaluate.generate.at", "not before the last step"),
        ("code_exec: bwrap", "code_exec: bwarp", "bwarp", "evaluate.code_exec", "did you mean 'bwrap'"),
        ("metric: pass_at_5", "metric: pass_at_3", "pass_at_3", "metric", "has no metric 'pass_at_3'"),
        ("metric: pass_at_5", "metric: exact_mach", "exact_mach", "metric", "did you mean 'exact_match'?"),
        (", code_exec: bwrap", "", "pass_at_5", "metric", "pass_at_5 runs programs; add evaluate"),
        (
            "generate: {max_tokens: 64, temperature: 0.8, samples: 5, examples: 20, at: [100]}, ",
            "",
            "{every: 50, code",
            "evaluate",
            "no programs are generated",
        ),
        (
            "noise_floor_seeds: 2",
            "noise_floor_seeds: 2, futility_look: 0.5",
            "pass_at_5",
            "metric",
            "look out",
        ),
        (
            TASK,
            "  - {task: infill, batch: 4, metric: score}\n",
            "{max",
            "evaluate.generate",
            "without generate",
        ),
        (
            TASK,
            "  - {task: squad, batch: 4, metric: exact_match, evaluate: {every: 5}}\n",
            "exact_match",
            "tasks[1].metric",
            "exact_match judges completions; add",
        ),
    ],
)
def test_what_cannot_be_had_is_said_where_it_stands(
    old: str, new: str, at: str, field: str, words: str
) -> None:
    """File, line, field, and what to do."""
    text = edit(old, new, PLAN)
    with pytest.raises(PlanError) as caught:
        read(text)
    (problem,) = caught.value.problems
    assert (problem.file, problem.place.line, problem.field) == ("plan.yaml", line_of(at, text), field)
    assert words in problem.message
