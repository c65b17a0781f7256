"""The levels of guessing, against guessers; and how far one gets on a task without doing what it asks for."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import Sources, create
from tests.tasks.question_tasks import assert_majority

TASKS: list[tuple[str, dict[str, Any]]] = [
    ("infill", {"n_symbols": 5}),
    ("kv_recall", {"n_values": 6}),
    ("kv_recall", {"order": "q_first"}),
    ("sudoku", {}),
    ("sudoku", {"base": 3, "mask_count": 20, "n_train": 400, "n_val": 200}),
    ("sudoku", {"mask_region": "suffix", "mask_count": 6, "n_train": 200, "n_val": 60}),
    ("retrieval", {}),
    ("retrieval", {"order": "q_first", "n_digits": 1, "query_last": True}),
    ("name_index", {}),
    ("name_index", {"order": "q_first", "n_names": 676}),
    ("middle_match", {}),
    ("middle_match", {"order": "q_first", "n_names": 5}),
    ("kv_sort", {}),
    ("kv_sort", {"n_pairs": 2, "n_digits": 2}),
]


@pytest.mark.parametrize(("name", "arguments"), TASKS)
def test_chance_is_the_score_of_guessing(name: str, arguments: dict[str, Any]) -> None:
    """Uniform guesses among the scored targets' tokens reach `chance`, within four standard errors."""
    task = create(name, {"n_train": 500, "n_val": 500, **arguments})
    validation = task.build(0, Sources()).validation
    targets = [example.targets[example.scored] for example in validation]
    kinds = np.unique(np.concatenate(targets))
    rng = np.random.default_rng(1)
    scores = [np.mean([np.mean(rng.choice(kinds, len(t)) == t) for t in targets]) for _ in range(20)]
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert task.chance(validation) == pytest.approx(np.mean(scores), abs=4 * error)
    assert error < 0.01


@pytest.mark.parametrize(("name", "arguments"), TASKS)
def test_majority_is_the_score_of_one_constant_answer(name: str, arguments: dict[str, Any]) -> None:
    """`majority` equals counting by hand: the training set's most frequent target, given everywhere."""
    task = create(name, {"n_train": 500, "n_val": 500, **arguments})
    built = task.build(0, Sources())
    scores = assert_majority(task, built)
    level = task.majority(built.train, built.validation)
    # These tasks are balanced: no constant answer is better than guessing.
    assert level == pytest.approx(
        task.chance(built.validation), abs=4 * np.std(scores) / np.sqrt(len(scores))
    )


def test_majority_sees_an_imbalance() -> None:
    """Not blind: where one target is more frequent, the level is its share, example by example."""
    task = create("infill", {"n_symbols": 2, "n_train": 100, "n_val": 50})
    built = task.build(0, Sources())
    frequent = [e for e in built.train if np.mean(e.targets[e.scored] == 3) > 0.7]
    assert frequent
    level = task.majority(frequent, frequent)
    assert level == pytest.approx(np.mean([np.mean(e.targets[e.scored] == 3) for e in frequent]))
    assert level > 0.7


Answers = Iterator[tuple[list[str], str]]
"""For each answer that a prompt asks for: the words of the prompt that it may be, and the answer."""


def drawn_retrieval(rng: random.Random, n: int = 10) -> Answers:
    while True:
        values = [f"{rng.randrange(10**6):06}" for _ in range(n)]
        yield values, rng.choice(values)


def drawn_kv_sort(rng: random.Random) -> Answers:
    return drawn_retrieval(rng, 7)  # which of the values is next does not matter to who cannot know


def drawn_name_index(rng: random.Random) -> Answers:
    names = [first + second for first in ascii_lowercase for second in ascii_lowercase]
    while True:
        chosen = rng.sample(names, 64)
        yield chosen, rng.choice(chosen)


def drawn_middle_match(rng: random.Random) -> Answers:
    while True:
        names = [rng.choice(ascii_lowercase) + rng.choice(ascii_lowercase) for _ in range(96)]
        yield names, names[rng.randrange(1, 95)]


def drawn_kv_recall(rng: random.Random) -> Answers:
    while True:
        values = [rng.choice("abcdefgh") for _ in range(12)]
        yield values, rng.choice(values)


def found(pattern: str) -> Callable[[str, str], Answers]:
    def answers(prompt: str, answer: str) -> Answers:
        words = re.findall(pattern, prompt)
        for word in re.findall(pattern, "=" + answer.replace(",", "=")):
            yield words, word

    return answers


def right_symbols(words: Sequence[str], answer: str) -> list[bool]:
    """Which symbols are right if each is the most frequent of the words that began as the answer did."""
    right = []
    for place, symbol in enumerate(answer):
        next_one = Counter(word[place] for word in words if word[:place] == answer[:place])
        right.append(max(next_one, key=lambda s: (next_one[s], s)) == symbol)
    return right


@pytest.mark.parametrize(
    ("name", "pattern", "drawn", "score", "whole"),
    [
        ("kv_recall", r"v(\d)", drawn_kv_recall, 0.29, 0.29),
        ("retrieval", r"=(\d{6})", drawn_retrieval, 0.82, 1 / 10),
        ("name_index", r"\b[a-z]{2}\b", drawn_name_index, 0.24, 1 / 64),
        ("middle_match", r"\b[a-z]{2}\b", drawn_middle_match, 0.20, 0.02),
        ("kv_sort", r"=(\d{6})", drawn_kv_sort, 0.84, 1 / 7),
    ],
)
def test_answers_from_the_prompt_without_the_question(
    name: str, pattern: str, drawn: Callable[[random.Random], Answers], score: float, whole: float
) -> None:
    """The levels that the tasks' pages give, on the task's examples and on prompts drawn without its code."""
    task = create(name, {"n_train": 2, "n_val": 1500})
    answers = found(pattern)
    examples = [task.render(example) for example in task.build(0, Sources()).validation]
    pairs = [pair for prompt, answer in examples for pair in answers(prompt, answer)]
    simulated = list(islice(drawn(random.Random(0)), 6000))
    levels = []
    for sample in (pairs, simulated):
        right = [right_symbols(words, answer) for words, answer in sample]
        shares = [sum(symbols) / len(symbols) for symbols in right]
        levels.append((np.mean(shares), np.std(shares) / np.sqrt(len(examples))))
        share_whole = np.mean([all(symbols) for symbols in right])
        assert share_whole == pytest.approx(whole, abs=0.01 + 4 * np.sqrt(whole / len(sample)))
    (on_task, error), (without_its_code, simulated_error) = levels
    assert on_task == pytest.approx(without_its_code, abs=4 * np.hypot(error, simulated_error))
    assert without_its_code == pytest.approx(score, abs=0.015)


def test_a_digit_that_the_puzzle_leaves_open_is_often_right() -> None:
    """sudoku: any digit that is not in the row, column or block of a blank, as the task's page says."""
    task = create("sudoku", {"n_train": 2, "n_val": 1000})
    expected = []
    for example in task.build(0, Sources()).validation:
        puzzle, solution = (np.array([list(line) for line in text.split()]) for text in task.render(example))
        for row, column in np.argwhere(puzzle == "."):
            block = puzzle[row // 2 * 2 :, column // 2 * 2 :][:2, :2]
            seen = {*puzzle[row], *puzzle[:, column], *block.flat}
            left_open = set("1234") - seen
            assert solution[row, column] in left_open
            expected.append(1 / len(left_open))
    assert np.mean(expected) == pytest.approx(0.80, abs=0.015)
    assert task.chance([]) == 0.25
