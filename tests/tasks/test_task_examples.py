"""The format of every task's examples, and that a prompt holds what its answer needs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import Sources, create
from fsearch.tasks.task import END, NO_TARGET, Built, Example, Task

SMALL = {"n_train": 200, "n_val": 40}
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("kv_recall", {}),
    ("kv_recall", {"order": "q_first", "n_keys": 5, "n_queries": 5}),
    ("sudoku", {}),
    ("sudoku", {"mask_region": "prefix", "mask_count": 5, "n_train": 90, "n_val": 20}),
    ("sudoku", {"base": 3, "mask_region": "suffix", "mask_count": 12}),
    ("retrieval", {}),
    ("name_index", {"order": "q_first"}),
    ("middle_match", {"n_names": 12}),
    ("kv_sort", {"n_digits": 3}),
]
ALL = [("infill", {}), ("infill", {"n_symbols": 3, "n_left": 0, "n_masks": 20}), *QUESTIONS]


def make(name: str, arguments: dict[str, Any], seed: int = 0) -> tuple[Task[Any], Built]:
    task = create(name, {**SMALL, **arguments})
    return task, task.build(seed, Sources())


def every(built: Built) -> list[Example]:
    return [*built.train, *built.validation]


@pytest.mark.parametrize(("name", "arguments"), ALL)
def test_arrays_have_one_length_and_tokens_are_in_the_vocabulary(
    name: str, arguments: dict[str, Any]
) -> None:
    """Every array of an example has T entries, every token and target is a token, and something is scored."""
    task, built = make(name, arguments)
    for example in every(built):
        assert len(example.tokens) == len(example.targets) == len(example.scored)
        assert 1 <= example.prompt_len <= len(example.tokens)
        assert example.tokens.dtype == example.targets.dtype == np.int32
        assert example.scored.dtype == np.bool_
        assert example.tokens.min() >= 0
        assert max(example.tokens.max(), example.targets.max()) < task.vocab_size
        assert example.targets.min() >= NO_TARGET
        assert example.scored.any()
        assert (example.targets[example.scored] != NO_TARGET).all()


@pytest.mark.parametrize(("name", "arguments"), QUESTIONS)
def test_targets_are_the_next_tokens_and_then_the_end(name: str, arguments: dict[str, Any]) -> None:
    """The answer is trained from the last prompt position on, END closes it and does not count."""
    _, built = make(name, arguments)
    for example in every(built):
        start = example.prompt_len - 1
        assert (example.targets[:start] == NO_TARGET).all()
        assert (example.targets[start:-1] == example.tokens[start + 1 :]).all()
        assert example.targets[-1] == END
        assert not example.scored[-1]
        assert not example.scored[:start].any()
        assert END not in example.tokens


def test_infill_is_all_prompt_and_hides_its_targets() -> None:
    """infill: at every scored position the model reads a mask, and no symbol of the answer came before."""
    _, built = make("infill", {})
    agree = []
    for example in every(built):
        assert len(example.tokens) == example.prompt_len == 34
        places = np.flatnonzero(example.scored)
        assert (places == np.arange(9, 21)).all()
        assert (example.targets >= 0).sum() == 12
        assert len(set(example.tokens[places].tolist())) == 1  # the mask
        assert example.tokens[places[0]] not in example.targets
        # What comes before says nothing of the targets: it agrees with them as often as chance has it.
        agree.append(np.mean(example.tokens[:8] == example.targets[places[:8]]))
    assert np.mean(agree) == pytest.approx(1 / 8, abs=4 * np.sqrt(1 / 8 * 7 / 8 / (8 * len(agree))))


def test_infill_targets_stand_in_the_right_hand_block() -> None:
    """infill: a reader of the rendered prompt finds the answer to the right of the second separator."""
    task, built = make("infill", {"n_symbols": 5, "n_left": 3, "n_masks": 6})
    for example in every(built):
        prompt, answer = task.render(example)
        left, masks, right = (part.split() for part in prompt.split("|"))
        assert (len(left), masks) == (3, ["_"] * 6)
        assert right == answer.split()


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_kv_recall_can_be_looked_up(order: str) -> None:
    """All keys once, distinct queries on the side that `order` says, 29 prompt tokens, right values."""
    task, built = make("kv_recall", {"order": order})
    orders_of_keys = set()
    for example in every(built):
        assert example.prompt_len == 29
        assert len(example.tokens) == 32
        prompt, answer = task.render(example)
        parts = prompt.removesuffix(" ?").split(" | ")
        pairs, queries = parts if order == "q_after" else reversed(parts)
        value_of = dict(pair.split(":") for pair in pairs.split())
        assert set(value_of) == {f"k{key}" for key in range(12)}
        assert len(pairs.split()) == 12
        asked = queries.split()
        assert len(set(asked)) == len(asked) == 3
        assert answer.split() == [value_of[key] for key in asked]
        assert (example.targets[example.scored] == example.tokens[29:]).all()
        orders_of_keys.add(tuple(value_of))
    assert len(orders_of_keys) == len(every(built))  # of 12! orders


def test_kv_recall_draws_keys_places_and_values_evenly() -> None:
    """No key is asked for, no place of the list is right, and no value occurs more often than another."""
    _, built = make("kv_recall", {"n_train": 6000, "n_keys": 6, "n_values": 4, "n_queries": 2})
    places, values, keys = Counter[int](), Counter[int](), Counter[int]()
    for example in built.train:
        pairs = example.tokens[:12].reshape(6, 2)
        for query in example.tokens[13:15].tolist():
            keys[query] += 1
            places[pairs[:, 0].tolist().index(query)] += 1
        values.update(pairs[:, 1].tolist())
    for counts, kinds in ((keys, 6), (places, 6), (values, 4)):
        assert len(counts) == kinds
        expected = counts.total() / kinds
        assert all(abs(count - expected) < 4 * np.sqrt(expected) for count in counts.values())


@pytest.mark.parametrize(
    ("base", "mask_region", "mask_count"), [(2, "random", 8), (3, "random", 40), (2, "suffix", 5)]
)
def test_sudoku_blanks_are_scored_and_given_cells_only_trained(
    base: int, mask_region: str, mask_count: int
) -> None:
    """The puzzle is the solution with `mask_count` blanks; just those are scored; all cells are trained."""
    arguments = {
        "base": base,
        "mask_region": mask_region,
        "mask_count": mask_count,
        "n_train": 90,
        "n_val": 20,
    }
    task, built = make("sudoku", arguments)
    cells = base**4
    for example in every(built):
        assert example.prompt_len == cells + 1
        puzzle, solution = (text.replace("\n", "") for text in task.render(example))
        blank = np.array([digit == "." for digit in puzzle])
        assert blank.sum() == mask_count
        assert all(given in (".", digit) for given, digit in zip(puzzle, solution, strict=True))
        assert (example.scored[cells:-1] == blank).all()
        assert (example.targets[cells:-1] >= 0).all()
        if mask_region == "suffix":
            assert blank[-mask_count:].all()


def test_another_seed_gives_other_examples() -> None:
    """The master seed decides the examples."""
    for name, arguments in ALL:
        (_, first), (_, second) = make(name, arguments, seed=1), make(name, arguments, seed=2)
        assert {e.tokens.tobytes() for e in first.train} != {e.tokens.tobytes() for e in second.train}
