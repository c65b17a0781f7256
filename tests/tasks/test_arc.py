"""arc: layout, filters, what keeps the splits apart, levels, and the metrics of choosing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import DataRefused, create
from fsearch.tasks.task import Answered, Example, Task
from fsearch.tokenizer import world
from tests.tables import arc
from tests.tasks.question_tasks import (
    Given,
    assert_apart,
    assert_chance,
    assert_majority,
    assert_seeded,
    every,
    fetch,
    left_out,
    make,
    one,
)

ROW = {
    "id": "hand",
    "question": "Which of these\nis a  gas?",
    "choices": {"text": ["iron ", "oxygen", "rock\nsalt"], "label": ["3", "1", "2"]},
    "answerKey": "3",
}
OTHERS = [arc.row("validation", 10), arc.row("validation", 11)]
SMALL = {"n_train": 90, "n_val": 60}


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize(
    ("order", "prompt"),
    [
        (
            "options_first",
            "Options:\nA. oxygen\nB. rock salt\nC. iron\n\nQuestion: Which of these is a gas?\n\nAnswer:\n",
        ),
        (
            "q_first",
            "Question: Which of these is a gas?\n\nOptions:\nA. oxygen\nB. rock salt\nC. iron\n\nAnswer:\n",
        ),
    ],
)
def test_a_row_by_hand(order: str, prompt: str, tokenizer: str) -> None:
    """Options in the order of their labels, lettered anew; the answer is one token, the option's letter."""
    task, example = one("arc", ROW, OTHERS, order=order, tokenizer=tokenizer)
    assert task.render(example) == (prompt, "C")
    assert example.tokens[example.prompt_len :].tolist() == task.tokens.encode("C").tolist()
    assert example.scored.sum() == 1
    assert example.document == "which of these is a gas"


@pytest.mark.parametrize("order", ["options_first", "q_first"])
def test_answers_are_the_tokens_that_they_are_in_running_text(order: str) -> None:
    """World cuts prompt and answer as it cuts the whole text, and letters of options as it cuts answers."""
    task, built = make("arc", order=order, **SMALL)
    letters = set()
    for example in every(built):
        text = "".join(task.render(example))
        assert world().encode(text).tolist() == example.tokens.tolist()
        letter, token = text[-1], int(example.tokens[-1])
        at_option = text.index(f"\n{letter}. ") + 1
        assert world().encode(text[at_option:]).tolist()[0] == token
        letters.add(letter)
    assert letters == set("ABCDE")


def test_question_and_options_stand_where_the_order_says() -> None:
    """options_first: the question is next to the answer; q_first: the options are. Lengths are equal."""
    lengths = {}
    for order in ("options_first", "q_first"):
        task, built = make("arc", order=order, n_train=116, n_val=80)
        for example in every(built):
            prompt, _ = task.render(example)
            assert (prompt.index("Options:") < prompt.index("Question: ")) == (order == "options_first")
            assert prompt.endswith("\n\nAnswer:\n")
        lengths[order] = {e.document: e.prompt_len for e in every(built)}
    assert lengths["options_first"] == lengths["q_first"]
    assert len(lengths["q_first"]) == 196


def test_the_right_option_is_the_one_that_the_table_says() -> None:
    """The text behind the answer's letter is the text of the row's key, for every row of the tables."""
    right = {}
    for row in [row for rows in arc.splits().values() for row in rows]:
        labels, texts = row["choices"]["label"], row["choices"]["text"]
        if row["answerKey"] in labels:
            key = " ".join(re.findall(r"\w+", row["question"].lower()))
            right[key] = texts[labels.index(row["answerKey"])]
    task, built = make("arc", **SMALL)
    for example in every(built):
        prompt, letter = task.render(example)
        assert re.search(rf"^{letter}\. (.*)$", prompt, re.MULTILINE)[1] == right[example.document]  # type: ignore[index]


def test_every_filter_is_counted() -> None:
    """Each kind of bad row is under its own reason, and nothing is lost."""
    once = {
        "empty question": 1,
        "fewer than two choices": 2,
        "more than 5 choices": 1,
        "choices without a label of their own": 1,
        "empty choice": 1,
        "two equal choices": 1,
        "answer key that is no label": 2,
        "repeats another example": 1,
    }
    assert left_out("arc") == {"train": {**once, "document of the other split": 4}, "validation": once}


def test_length_limits_leave_out_and_never_cut() -> None:
    """A prompt that is too long or too short is left out, and counted."""
    lengths = [e.prompt_len for e in every(make("arc", n_train=116, n_val=80)[1])]
    longest, shortest = max(lengths), min(lengths)
    assert shortest < longest
    too_long, too_short = "prompt longer than max_prompt_tokens", "prompt shorter than min_prompt_tokens"
    removed = left_out("arc", max_prompt_tokens=longest - 1)
    assert sum(counts.get(too_long, 0) for counts in removed.values()) >= lengths.count(longest)
    removed = left_out("arc", min_prompt_tokens=shortest + 1)
    assert sum(counts.get(too_short, 0) for counts in removed.values()) >= lengths.count(shortest)
    _, built = make("arc", max_prompt_tokens=longest - 1, **SMALL)
    assert max(e.prompt_len for e in every(built)) < longest


def test_splits_share_no_question() -> None:
    """Not even one that is written in capitals and with other spaces."""
    _, built = make("arc", n_train=116, n_val=80)
    assert_apart(built)
    train = {row["question"].casefold() for row in arc.splits()["train"]}
    assert any("validation case 3" in question for question in train)
    assert not any("validation" in e.document for e in built.train)


def test_the_seed_decides_the_examples() -> None:
    """Same seed, same bytes; another seed, other rows."""
    assert_seeded("arc", **SMALL)
    assert_seeded("arc", tokenizer="bytes", **SMALL)


@pytest.mark.parametrize("order", ["options_first", "q_first"])
@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
def test_levels(order: str, tokenizer: str) -> None:
    """Chance is guessing among the options of the question; majority is always the same letter."""
    task, built = make("arc", order=order, tokenizer=tokenizer, **SMALL)

    def letters(example: Example) -> list[int]:
        block = task.render(example)[0].split("Options:\n")[1].split("\n\n")[0]
        return [int(task.tokens.encode(line[0])[0]) for line in block.split("\n")]

    assert {len(letters(example)) for example in built.validation} == {3, 4, 5}
    assert_chance(task, built.validation, letters)
    assert_majority(task, built)
    by_hand = sum(1 / len(letters(example)) for example in built.validation) / len(built.validation)
    assert task.chance(built.validation) == pytest.approx(by_hand, abs=1e-12)


def with_choices(task: Task[Any], n: int, right: str) -> Example:
    """An example with `n` options, as it is read back from prepared data."""
    labels = list("ABCDE"[:n])
    texts = [f"A. thing {label}" for label in labels]
    row = {**ROW, "question": "A. Which?", "choices": {"text": texts, "label": labels}, "answerKey": right}
    example = task.build(0, Given([row], OTHERS)).train[0]
    return dataclasses.replace(example, document="0123456789abcdef")


@pytest.mark.parametrize("order", ["options_first", "q_first"])
def test_metrics_by_hand(order: str) -> None:
    """Only the letters of an example's own options are compared, ties go to the first."""
    task = create("arc", {"n_train": 1, "n_val": 2, "order": order, "tokenizer": "bytes"})
    a, b, c, d = (int(task.tokens.encode(letter)[0]) for letter in "ABCD")
    ln2 = np.log(2)
    cases = [  # options, right, most likely of all, logits of A..E, chosen, probability of the right one
        (3, "B", b, [0, ln2, 0, 9, 9], True, 2 / 4),
        (4, "A", d, [1, 1, 1, 1, 9], True, 1 / 4),
        (4, "D", d, [2, 2, 2, 2, 2], False, 1 / 4),
        (5, "E", a, [0, ln2, 0, 0, 2 * ln2], True, 4 / 9),
        (2, "B", c, [-1000, 1000, 0, 0, 0], True, 1),
    ]
    answered = [
        Answered(
            with_choices(task, n, right), np.array([predicted], np.int32), np.array([logits], np.float32)
        )
        for n, right, predicted, logits, _, _ in cases
    ]
    assert task.choice_tokens is not None
    assert task.choice_tokens.tolist() == [ord(letter) + 1 for letter in "ABCDE"]
    metrics = task.metrics(answered)
    assert metrics["whole_answer"] == 2 / 5
    assert metrics["choice_accuracy"] == 4 / 5
    assert metrics["choice_likelihood"] == pytest.approx((2 / 4 + 1 / 4 + 1 / 4 + 4 / 9 + 1) / 5, abs=1e-7)
    for one_answered, (*_, chosen, probability) in zip(answered, cases, strict=True):
        alone = task.metrics([one_answered])
        assert alone["choice_accuracy"] == chosen
        assert alone["choice_likelihood"] == pytest.approx(probability, abs=1e-7)


def test_offline_rows_are_those_of_the_configuration_and_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetched table has both configurations and both splits in one file."""
    rows = []
    for config in ("ARC-Challenge", "ARC-Easy"):
        for split in ("train", "validation"):
            for row in (arc.row(split, i) for i in range(120)):
                question = f"{config}: {row['question']}"
                rows.append({**row, "question": question, "config": config, "split": split})
    sources = fetch(tmp_path, monkeypatch, "arc", rows)
    task, built = make("arc", sources=sources, source="offline", config="ARC-Easy", **SMALL)
    assert all("Question: ARC-Easy:" in task.render(e)[0] for e in built.validation)
    assert all("validation case" in e.document for e in built.validation)
    assert {Path(origin.name).name for origin in sources.origins} == {"arc.jsonl"}
    assert task.arguments.download is None
    assert create("arc", {}).arguments.download == "allenai/ai2_arc"


def test_another_data_set_is_refused_in_words() -> None:
    """Missing columns, and missing fields of columns, are named."""
    rows = [{"id": "1", "question": "Why?", "choices": {"text": ["a"]}}]
    with pytest.raises(DataRefused, match=r"allenai/ai2_arc has no column 'choices.label' or 'answerKey'"):
        make("arc", sources=Given(rows, rows))
