"""squad: layout, what fills a prompt and where the paragraph stands in it, filters, levels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fsearch.tasks import DataRefused, DataShort, create
from fsearch.tasks.task import Example, Task
from fsearch.tokenizer import world
from tests.tables import squad
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
    "title": "Super_Bowl_50",
    "context": "The game was played in  2016.\nThe Broncos won it; the Broncos were proud.",
    "question": "Who  won?",
    "answers": {"text": ["The Broncos", "Broncos"], "answer_start": [30, 34]},
}
OTHERS = squad.article("validation", "Elsewhere", 3)[:2]
PARAGRAPH = "The game was played in 2016. The Broncos won it; the Broncos were proud."
SMALL = {"n_train": 90, "n_val": 60}
FILLED = {**SMALL, "fill_notes_to_max": True}
ROWS = [row for rows in squad.splits().values() for row in rows]
TITLE_OF = {" ".join(row["context"].split()): row["title"] for row in ROWS}


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize(
    ("order", "prompt"),
    [
        ("q_after", f"Context:\n\n{PARAGRAPH}\n\nQuestion: Who won?\n\nAnswer:"),
        ("q_first", f"Question: Who won?\n\nContext:\n\n{PARAGRAPH}\n\nAnswer:"),
    ],
)
def test_a_row_by_hand(order: str, prompt: str, tokenizer: str) -> None:
    """One paragraph, the question on the side that the order says, the first of the answers.

    All of its tokens are scored, but not a space of its own.
    """
    task, example = one("squad", ROW, OTHERS, order=order, tokenizer=tokenizer)
    assert task.render(example) == (prompt, " The Broncos")
    scored = example.scored[example.prompt_len - 1 : -1].tolist()
    assert scored == [tokenizer == "world"] + [True] * (len(example.tokens) - example.prompt_len - 1)
    assert (example.document, example.sources) == (PARAGRAPH, {"Super_Bowl_50"})


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_parts_are_the_tokens_that_they_are_in_running_text(order: str) -> None:
    """World cuts the parts of a prompt and the answer as it cuts the whole text."""
    task, built = make("squad", order=order, **SMALL)
    for example in every(built):
        assert world().encode("".join(task.render(example))).tolist() == example.tokens.tolist()


def blocks(task: Task[Any], example: Example) -> tuple[str, list[str]]:
    """The question of a prompt, and the blocks of its context."""
    prompt, _ = task.render(example)
    if task.arguments.order == "q_first":
        question, context = prompt.removesuffix("\n\nAnswer:").split("\n\nContext:\n\n")
    else:
        context, question = prompt.removeprefix("Context:\n\n").removesuffix("\n\nAnswer:").split("\n\nQuest")
        question = f"Quest{question}"
    # A note may be cut within the line ends before it.
    return question.removeprefix("Question: "), [
        b.strip("\n") for b in context.split("\n\n") if b.strip("\n")
    ]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_question_stands_where_the_order_says(order: str, fill: bool) -> None:
    """q_after: between the context and the answer; q_first: before the context. It is always whole."""
    arguments = {**SMALL, "order": order, "fill_notes_to_max": fill, "max_prompt_tokens": 300}
    task, built = make("squad", **arguments)
    questions = {row["question"] for row in ROWS}
    for example in every(built):
        question, context = blocks(task, example)
        assert question in questions
        assert example.document in context
        assert fill or context == [example.document]


def test_both_orders_have_the_same_lengths() -> None:
    """So that a limit on the length keeps the same rows in both."""
    lengths = []
    for order in ("q_after", "q_first"):
        task, built = make("squad", order=order, n_train=122, n_val=74)
        lengths.append({(blocks(task, e)[0], e.document): e.prompt_len for e in every(built)})
    assert lengths[0] == lengths[1]
    assert len(lengths[0]) == 196


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_filled_prompts(order: str, tokenizer: str) -> None:
    """Exactly max_prompt_tokens, the own paragraph once, the others of other articles, without the answer."""
    n = 400 if tokenizer == "world" else 1500
    task, built = make("squad", order=order, tokenizer=tokenizer, max_prompt_tokens=n, **FILLED)
    titles = set()
    for example in every(built):
        assert example.prompt_len == n
        (own,) = example.sources
        answer = task.render(example)[1].strip().casefold()
        _, context = blocks(task, example)
        assert context.count(example.document) == 1
        context.remove(example.document)
        assert len(context) >= 2
        assert len(set(context)) == len(context)
        assert all(answer not in block.casefold() for block in context)
        whole = [block for block in context if block in TITLE_OF]
        assert len(context) - len(whole) <= 1  # the one that was cut
        assert own not in {TITLE_OF[block] for block in whole}
        titles |= {TITLE_OF[block] for block in whole}
    assert len(titles) > 10


def test_the_paragraph_stands_anywhere_among_the_notes() -> None:
    """Every place is taken, the first and the last too, and none much more often than the others."""
    task, built = make("squad", max_prompt_tokens=400, **FILLED)
    places, sizes = Counter[int](), Counter[int]()
    for example in every(built):
        _, context = blocks(task, example)
        places[context.index(example.document)] += 1
        sizes[len(context)] += 1
    n = max(sizes)
    assert set(places) == set(range(n))
    expected = sum(places.values()) / n
    assert all(abs(places[place] - expected) < 4 * expected**0.5 for place in range(min(sizes)))


def test_notes_are_of_the_split_of_their_example() -> None:
    """No paragraph of a validation prompt, notes too, is in a training prompt."""
    train = [row for row in squad.splits()["train"] if row["title"] != squad.SHARED]
    validation = squad.splits()["validation"]
    task, built = make("squad", sources=Given(train, validation), max_prompt_tokens=500, **FILLED)
    titles = [
        {TITLE_OF[block] for e in examples for block in blocks(task, e)[1] if block in TITLE_OF}
        for examples in (built.train, built.validation)
    ]
    assert len(titles[0]) > 5
    assert len(titles[1]) > 3
    assert titles[0].isdisjoint(titles[1])


def test_every_filter_is_counted() -> None:
    """Each kind of bad row is under its own reason, and nothing is lost."""
    once = {
        "empty question": 1,
        "no answer": 1,
        "answer that is not where it should be in the paragraph": 2,
        "answer longer than max_answer_tokens": 4,
        "repeats another example": 2,
    }
    assert left_out("squad") == {"train": {**once, "source of the other split": 12}, "validation": once}


def test_a_paragraph_is_never_cut() -> None:
    """A prompt that is too long is left out, and so is one that nothing can fill."""
    lengths = [e.prompt_len for e in every(make("squad", n_train=122, n_val=74)[1])]
    limit = sorted(lengths)[len(lengths) // 2]
    removed = left_out("squad", max_prompt_tokens=limit)
    too_long = sum(counts["prompt longer than max_prompt_tokens"] for counts in removed.values())
    assert too_long >= sum(length > limit for length in lengths) > 0
    task, built = make("squad", max_prompt_tokens=limit, n_train=20, n_val=10)
    assert all(blocks(task, e)[1] == [e.document] for e in every(built))
    alone = squad.article("train", "Alone", 1)
    sources = Given(alone, squad.splits()["validation"])
    with pytest.raises(DataShort, match=r"no other row to fill the prompt with +12 "):
        make("squad", sources=sources, **FILLED)


def test_min_prompt_tokens_leaves_out() -> None:
    """Prompts below the limit are counted and not there."""
    lengths = [e.prompt_len for e in every(make("squad", n_train=122, n_val=74)[1])]
    limit = sorted(lengths)[len(lengths) // 2]
    removed = left_out("squad", min_prompt_tokens=limit)
    too_short = sum(counts["prompt shorter than min_prompt_tokens"] for counts in removed.values())
    assert too_short >= sum(length < limit for length in lengths) > 0
    _, built = make("squad", min_prompt_tokens=limit, n_train=20, n_val=10)
    assert min(e.prompt_len for e in every(built)) >= limit


def test_splits_share_no_article() -> None:
    """Though the table has one in both."""
    _, built = make("squad", n_train=122, n_val=74)
    assert_apart(built)
    assert frozenset([squad.SHARED]) in {e.sources for e in built.validation}


def test_the_seed_decides_the_examples() -> None:
    """Same seed, same bytes; another seed, other rows; with notes too."""
    assert_seeded("squad", **SMALL)
    assert_seeded("squad", max_prompt_tokens=400, tokenizer="bytes", **FILLED)


def test_levels() -> None:
    """Chance is a guess among all tokens; majority always gives the same one."""
    task, built = make("squad", tokenizer="bytes", **SMALL)
    everything = range(task.vocab_size)
    assert_chance(task, built.validation, lambda _: everything)
    assert_majority(task, built)


def test_offline_rows_are_those_of_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fetched table says of each row which split it is in."""
    rows = [{**row, "split": split} for split, rows in squad.splits().items() for row in rows]
    sources = fetch(tmp_path, monkeypatch, "squad", rows)
    task, built = make("squad", sources=sources, source="offline", **SMALL)
    for split, examples in (("train", built.train), ("validation", built.validation)):
        there = {" ".join(row["context"].split()) for row in rows if row["split"] == split}
        assert {e.document for e in examples} <= there
    assert task.arguments.download is None
    assert create("squad", {}).arguments.download == "rajpurkar/squad"


def test_another_data_set_is_refused_in_words() -> None:
    """Missing columns are named."""
    rows = [{"title": "x", "context": "y", "question": "z?", "answers": {"text": ["y"]}}]
    with pytest.raises(DataRefused, match=r"rajpurkar/squad has no column 'answers.answer_start'; it has"):
        make("squad", sources=Given(rows, rows))
