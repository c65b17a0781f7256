"""A plan becomes searches; its id is that of its meaning."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from fsearch.plan import Largest, expand, parse

from .plan_texts import COMPLETE, GOOD, edit, read


def test_lists_become_one_search_each_in_the_order_of_the_plan() -> None:
    """Batch and learning rate are swept, every other field is shared by the searches of an entry."""
    searches = expand(read(COMPLETE))
    assert [(s.task, s.batch, s.recipe["lr"]) for s in searches] == [
        ("protein_ss", Largest(), 3.0e-5),
        ("punctuation", 2, 3.0e-5),
        ("punctuation", 2, 1.0e-4),
        ("mbpp", 2, 3.0e-5),
        ("mbpp", 4, 3.0e-5),
        ("mbpp", 8, 3.0e-5),
    ]
    assert [search.index for search in searches] == list(range(6))
    assert [search.entry for search in searches] == [0, 1, 1, 2, 2, 2]
    assert {search.plan for search in searches} == {read(COMPLETE).id}


def test_batch_and_learning_rate_are_crossed() -> None:
    """Two lists give every pair, the learning rate moving fastest."""
    text = edit("batch: [8, 16]", "batch: [8, 16], train: {lr: [0.01, 0.02]}")
    found = [(s.batch, s.recipe["lr"]) for s in expand(read(text)) if s.task == "kv_recall"]
    assert found == [(8, 0.01), (8, 0.02), (16, 0.01), (16, 0.02)]


def test_a_label_says_what_tells_a_search_from_its_siblings_and_no_more() -> None:
    """Siblings are the searches of the same task; a task alone has its bare name."""
    assert [search.label for search in expand(read(GOOD))] == [
        "infill",
        "kv_recall batch=8",
        "kv_recall batch=16",
    ]
    more = "  - {task: kv_recall, order: q_first, batch: 8, train: {lr: [5.0e-3, 0.02]}}\n"
    assert [search.label for search in expand(read(GOOD + more))][1:] == [
        "kv_recall q_after batch=8 lr=0.005",
        "kv_recall q_after batch=16 lr=0.005",
        "kv_recall q_first batch=8 lr=0.005",
        "kv_recall q_first batch=8 lr=0.02",
    ]


def test_a_label_is_one_line() -> None:
    """Two orders of a table's columns differ in their templates, which may have line ends."""
    orders = ('"{text}\\n{asked}:"', '"{asked}\\n{text}:"')
    more = "".join(
        f"  - {{task: sft, data: a.csv, prompt: {prompt}, answer: '{{b}}', batch: 8}}\n" for prompt in orders
    )
    assert [search.label for search in expand(read(GOOD + more))][3:] == [
        r"sft {text}\n{asked}:",
        r"sft {asked}\n{text}:",
    ]


@pytest.mark.parametrize(
    "more",
    [
        "  - {task: infill, batch: 32, n_masks: 8, stages: [{name: s, steps: 10}]}\n",
        "  - {task: infill, batch: [{largest: {at_most: 4}}, {largest: {at_most: 8}}, largest]}\n",
        "  - {task: infill, batch: 32, n_masks: 8, train: {decay: none, warmup: 0.2}}\n",
        "  - {task: infill, batch: 32, n_masks: 8, train: {betas: [0.8, 0.9]}}\n",
    ],
)
def test_no_two_searches_of_a_plan_have_one_label(more: str) -> None:
    """Tables and exports can tell all searches of a plan apart."""
    labels = [search.label for search in expand(read(GOOD + more))]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + GOOD,
        GOOD.replace("\n", "\r\n"),
        edit("seed: 7", "seed:    7   # seven"),
        edit("lr: 5.0e-3", "lr: 0.005"),
        edit("lr: 5.0e-3", "lr: [5e-3]"),
        edit("{name: quick, steps: 180}", "{steps: 180, 'name': \"quick\"}"),
        edit("seed: 7\n", "") + "seed: 7\n",
        edit("{prune_below: 0.001, noise_floor_seeds: 2}", "\n  noise_floor_seeds: 2\n  prune_below: 1e-3"),
        edit("alpha: 2,", "alpha: 2.0, detach: true,"),
    ],
)
def test_layout_does_not_change_the_id(text: str) -> None:
    """Comments, order, spelling of numbers and written-out defaults mean the same plan."""
    assert text != GOOD
    assert read(text).id == read(GOOD).id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 7", "seed: 8"),
        ("n_layer: 3", "n_layer: 4"),
        ("lr: 5.0e-3", "lr: 5.1e-3"),
        ("steps: 180", "steps: 181"),
        ("seeds: 5", "seeds: 6"),
        ("prune_below: 0.001", "prune_below: 0.002"),
        ("at_least: 0.01", "at_least: 0.02"),
        ("- scalar_l1\n", "- scalar_l2\n"),
        ("alpha: 2,", "alpha: 3,"),
        ("n_masks: 8", "n_masks: 9"),
        ("batch: 32", "batch: 31"),
        ("order: q_after", "order: q_first"),
        ("batch: [8, 16]", "batch: [16, 8]"),
    ],
)
def test_meaning_changes_the_id(old: str, new: str) -> None:
    """Every field that decides something is in the id."""
    assert read(edit(old, new)).id != read(GOOD).id


def test_defaults_of_a_task_are_part_of_the_meaning() -> None:
    """Where a release changes the default of an argument, the same text is another plan."""

    class Before(BaseModel):
        size: int = 1

    class After(BaseModel):
        size: int = 2

    text = GOOD[: GOOD.index("tasks:")] + "tasks: [{task: own, batch: 4}]\n"
    assert parse(text, {"own": Before}).id != parse(text, {"own": After}).id
