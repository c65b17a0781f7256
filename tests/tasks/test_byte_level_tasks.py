"""The probes spelled byte by byte: every answer follows from its prompt, and from nothing else in it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import Sources, create
from fsearch.tasks.task import Answered, Built, Example, Task

SMALL = {"n_train": 300, "n_val": 60}
PROBES: list[tuple[str, dict[str, Any]]] = [
    ("retrieval", {}),
    ("retrieval", {"order": "q_first", "query_last": True}),
    ("name_index", {}),
    ("name_index", {"order": "q_first", "n_names": 7}),
    ("middle_match", {}),
    ("middle_match", {"order": "q_first", "n_names": 9}),
    ("kv_sort", {}),
    ("kv_sort", {"n_pairs": 3, "n_digits": 2}),
]


def make(name: str, arguments: dict[str, Any]) -> tuple[Task[Any], Built]:
    task = create(name, {**SMALL, **arguments})
    return task, task.build(0, Sources())


def texts(task: Task[Any], built: Built) -> list[tuple[str, str]]:
    return [task.render(example) for example in (*built.train, *built.validation)]


def parts(prompt: str, order: str) -> tuple[str, str]:
    """Context and question of a prompt."""
    first, second = prompt.removesuffix("=").split("?")
    return (first, second) if order == "q_after" else (second, first)


@pytest.mark.parametrize(("name", "arguments"), PROBES)
def test_a_token_is_a_byte_and_separators_do_not_count(name: str, arguments: dict[str, Any]) -> None:
    """Tokens are the bytes plus one, as in the World vocabulary; letters and digits of an answer count."""
    task, built = make(name, arguments)
    assert task.vocab_size == 257
    for example in built.train:
        prompt, answer = task.render(example)
        assert example.tokens.tolist() == [byte + 1 for byte in (prompt + answer).encode()]
        assert example.prompt_len == len(prompt)
        scored = example.scored[example.prompt_len - 1 : -1].tolist()
        assert scored == [character.isalnum() for character in answer]
        assert [(span.text, span.scored) for span in task.spans(example)[1]] == [
            (piece, piece != ",") for piece in re.split("(,)", answer)
        ]


@pytest.mark.parametrize("order", ["q_after", "q_first"])
@pytest.mark.parametrize("query_last", [False, True])
def test_retrieval_can_be_looked_up(order: str, query_last: bool) -> None:
    """Ten distinct keys; the answer is the value of the one asked for, which is anywhere or at the end."""
    task, built = make("retrieval", {"order": order, "query_last": query_last})
    places = Counter[int]()
    for prompt, answer in texts(task, built):
        context, query = parts(prompt, order)
        assert re.fullmatch(r"([0-9a-z]{2}=\d{6};){9}[0-9a-z]{2}=\d{6}", context)
        pairs = [pair.split("=") for pair in context.split(";")]
        assert len({key for key, _ in pairs}) == 10
        assert [value for key, value in pairs if key == query] == [answer]
        places[[key for key, _ in pairs].index(query)] += 1
    expected = places.total() / 10
    if query_last:
        assert set(places) == {9}
    else:
        assert len(places) == 10
        assert all(abs(count - expected) < 4 * np.sqrt(expected) for count in places.values())


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_name_index_counts_from_0(order: str) -> None:
    """64 distinct names; the index has two digits and is that of the answer; every index is asked for."""
    task, built = make("name_index", {"order": order, "n_train": 2000})
    asked = set()
    for prompt, answer in texts(task, built):
        context, query = parts(prompt, order)
        assert re.fullmatch(r"([a-z]{2},){63}[a-z]{2}", context)
        names = context.split(",")
        assert len(set(names)) == 64
        assert re.fullmatch(r"\d\d", query)
        assert names[int(query)] == answer
        asked.add(int(query))
    assert asked == set(range(64))


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_middle_match_has_one_answer(order: str) -> None:
    """96 names; just one of them stands between the two given, and it is the answer."""
    task, built = make("middle_match", {"order": order, "n_train": 3000})
    places = set()
    for prompt, answer in texts(task, built):
        context, query = parts(prompt, order)
        assert re.fullmatch(r"([a-z]{2},){95}[a-z]{2}", context)
        names = context.split(",")
        found = [place for place in range(1, 95) if f"{names[place - 1]}_{names[place + 1]}" == query]
        assert [names[place] for place in found] == [answer]
        places.update(found)
    assert places == set(range(1, 95))


def test_middle_match_leaves_out_what_is_ambiguous() -> None:
    """Where neighbours occur twice by accident, the prompt is left out and counted."""
    built = create("middle_match", {"n_names": 2000, "n_train": 400, "n_val": 2}).build(0, Sources())
    removed = built.counts["train"]["the same neighbours around two names"]
    # Another place has both names with 1 chance in 676 ** 2; there are 1997 of them.
    expected = 400 * 1997 / 676**2
    assert 0 < removed < expected + 4 * np.sqrt(expected)


def test_kv_sort_gives_values_in_the_order_of_keys() -> None:
    """Seven distinct keys of two digits; the answer lists their values from the smallest key on."""
    task, built = make("kv_sort", {})
    for prompt, answer in texts(task, built):
        assert re.fullmatch(r"(\d\d=\d{6};){6}\d\d=\d{6}=", prompt)
        value_of = {int(pair[:2]): pair[3:] for pair in prompt.removesuffix("=").split(";")}
        assert len(value_of) == 7
        assert answer.split(",") == [value_of[key] for key in sorted(value_of)]


def answered(example: Example, wrong: tuple[int, ...]) -> Answered:
    """Right but for the scored places `wrong`."""
    predicted = example.targets[example.scored].copy()
    predicted[list(wrong)] = 0
    return Answered(example, predicted, None)


def test_kv_sort_counts_whole_values() -> None:
    """One wrong digit costs its value, two in one value cost no more, whatever the others are."""
    task, built = make("kv_sort", {"n_pairs": 3, "n_digits": 2})
    right, one, two = built.train[:3]
    figures = task.metrics([answered(right, ()), answered(one, (0,)), answered(two, (1, 2, 3))])
    assert figures == {"whole_answer": pytest.approx(1 / 3), "values": pytest.approx((3 + 2 + 1) / 9)}


def test_sudoku_counts_cells_and_boards() -> None:
    """Three of sixteen blank cells wrong, on one board of two."""
    task, built = make("sudoku", {})
    first, second = built.train[:2]
    figures = task.metrics([answered(first, ()), answered(second, (0, 3, 7))])
    assert figures == {"whole_answer": 0.5, "boards": 0.5, "cells": pytest.approx(13 / 16)}
