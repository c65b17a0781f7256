"""The levels of guessing, against guessers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import create

TASKS: list[tuple[str, dict[str, Any]]] = [
    ("infill", {"n_symbols": 5}),
    ("kv_recall", {"n_values": 6}),
    ("kv_recall", {"order": "q_first"}),
    ("sudoku", {}),
    ("sudoku", {"base": 3, "mask_count": 20, "n_train": 400, "n_val": 200}),
]


@pytest.mark.parametrize(("name", "arguments"), TASKS)
def test_chance_is_the_score_of_guessing(name: str, arguments: dict[str, Any]) -> None:
    """Uniform guesses among the scored targets' tokens reach `chance`, within four standard errors."""
    task = create(name, {"n_train": 500, "n_val": 500, **arguments})
    validation = task.build(0).validation
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
    built = task.build(0)
    counter = Counter[int]()
    for example in built.train:
        counter.update(example.targets[example.scored].tolist())
    answer = max(counter, key=lambda token: (counter[token], -token))
    scores = []
    for example in built.validation:
        wanted = example.targets[example.scored].tolist()
        scores.append(wanted.count(answer) / len(wanted))
    level = task.majority(built.train, built.validation)
    assert level == pytest.approx(sum(scores) / len(scores), abs=1e-12)
    # These tasks are balanced: no constant answer is better than guessing.
    assert level == pytest.approx(
        task.chance(built.validation), abs=4 * np.std(scores) / np.sqrt(len(scores))
    )


def test_majority_sees_an_imbalance() -> None:
    """Not blind: where one target is more frequent, the level is its share, example by example."""
    task = create("infill", {"n_symbols": 2, "n_train": 100, "n_val": 50})
    built = task.build(0)
    frequent = [e for e in built.train if np.mean(e.targets[e.scored] == 3) > 0.7]
    assert frequent
    level = task.majority(frequent, frequent)
    assert level == pytest.approx(np.mean([np.mean(e.targets[e.scored] == 3) for e in frequent]))
    assert level > 0.7
