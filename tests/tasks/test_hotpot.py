"""hotpot: layout, what a cut takes and what it leaves, filters, levels, and rows made from SQuAD."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fsearch.tasks import DataRefused, DataShort, create, label
from fsearch.tasks.hotpot import SquadDistractor
from fsearch.tasks.sources import Row
from fsearch.tasks.task import Example, Task
from fsearch.tasks.text import CUT
from fsearch.tokenizer import world
from tests.tables import hotpot, squad
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
    "question": "Where is the river\nthat Ann  crossed?",
    "answer": "Peru",
    "type": "bridge",
    "level": "easy",
    "supporting_facts": {"title": ["Ann", "Long River"], "sent_id": [0, 0]},
    "context": {
        "title": ["Zed", "Ann", "Nobody", "Long River", "Last"],
        "sentences": [
            ["Zed is a town.", " It is old."],
            ["Ann crossed the Long River."],
            [],
            ["It is in Peru.", " It is long."],
            ["Last is the last."],
        ],
    },
}
OTHERS = [hotpot.row("validation", 10), hotpot.row("validation", 11)]
CONTEXT = (
    "Zed: Zed is a town. It is old.\n\nAnn: Ann crossed the Long River.\n\n"
    "Long River: It is in Peru. It is long.\n\nLast: Last is the last."
)
QUESTION = "Question: Where is the river that Ann crossed?"
SMALL = {"n_train": 80, "n_val": 50}


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize(
    ("order", "prompt"),
    [
        ("q_after", f"Context:\n\n{CONTEXT}\n\n{QUESTION}\n\nAnswer:"),
        ("q_first", f"{QUESTION}\n\nContext:\n\n{CONTEXT}\n\nAnswer:"),
    ],
)
def test_a_row_by_hand(order: str, prompt: str, tokenizer: str) -> None:
    """Titles and sentences in their order, without empty paragraphs; nothing is cut."""
    task, example = one("hotpot", ROW, OTHERS, order=order, tokenizer=tokenizer)
    assert task.render(example) == (prompt, " Peru")
    scored = example.scored[example.prompt_len - 1 : -1].tolist()
    assert scored == [tokenizer == "world"] + [True] * (len(example.tokens) - example.prompt_len - 1)
    assert example.document == "where is the river that ann crossed"
    assert example.sources == {"Zed", "Ann", "Long River", "Last"}
    assert example.remarks == ()


@pytest.mark.parametrize(
    ("characters", "rest"),
    [
        (0, "Zed: Zed is a town. It is old.\n\nAnn: @\n\nLong River: @\n\nLast: Last is the last."),
        (1, "Zed: Zed is a town. It is old.\n\nAnn: @\n\nLong River: @\n\nLast: Last is the last"),
        (25, "Zed: Zed is a town. It is old.\n\nAnn: @\n\nLong River: @"),
        (30, "Zed: Zed is a town. It is\n\nAnn: @\n\nLong River: @"),
        (57, "\n\nAnn: @\n\nLong River: @"),
    ],
)
@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_a_cut_by_hand(order: str, characters: int, rest: str) -> None:
    """The last paragraph goes first, then the one before, but never what supports the answer."""
    whole = len("Context:\n\n" + CONTEXT + "\n\n" + QUESTION + "\n\nAnswer:")
    rest = rest.replace("@", "Ann crossed the Long River.", 1).replace("@", "It is in Peru. It is long.")
    start = "Context:" if characters == 57 else "Context:\n\n"
    prompt = f"{start}{rest}\n\n{QUESTION}\n\nAnswer:"
    if order == "q_first":
        prompt = f"{QUESTION}\n\n{start}{rest}\n\nAnswer:"
    task, example = one(
        "hotpot", ROW, OTHERS_SHORT, order=order, tokenizer="bytes", max_prompt_tokens=whole - characters
    )
    assert task.render(example)[0] == prompt
    assert example.remarks == ((CUT,) if characters else ())


def short_row(i: int) -> Row:
    facts = {"title": ["A"], "sent_id": [0]}
    context = {"title": ["A"], "sentences": [["It is in Chile."]]}
    return {**ROW, "question": f"Where is A{i}?", "supporting_facts": facts, "context": context}


OTHERS_SHORT = [short_row(1), short_row(2)]


def test_what_cannot_be_cut_to_fit_is_left_out() -> None:
    """One character less than the supporting paragraphs need: counted, not built."""
    whole = len("Context:\n\n" + CONTEXT + "\n\n" + QUESTION + "\n\nAnswer:")
    with pytest.raises(DataShort) as caught:
        one("hotpot", ROW, OTHERS_SHORT, tokenizer="bytes", max_prompt_tokens=whole - 58)
    assert caught.value.counts["train"] == {
        "candidates": 1, "prompt longer than max_prompt_tokens": 1, "built": 0, "asked for": 1,
    }  # fmt: skip


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_parts_are_the_tokens_that_they_are_in_running_text(order: str) -> None:
    """World cuts the parts of a prompt and the answer as it cuts the whole text."""
    task, built = make("hotpot", order=order, **SMALL)
    for example in every(built):
        assert world().encode("".join(task.render(example))).tolist() == example.tokens.tolist()


def rows_by_question(tables: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {" ".join(row["question"].split()): row for rows in tables.values() for row in rows}


def question_and_context(task: Task[Any], example: Example) -> tuple[str, str]:
    prompt, _ = task.render(example)
    if task.arguments.order == "q_first":
        question, context = prompt.removesuffix("\n\nAnswer:").split("\n\nContext:")
    else:
        context, question = prompt.removeprefix("Context:").removesuffix("\n\nAnswer:").split("\n\nQuestion:")
    return question.removeprefix("Question:").strip(), context


@pytest.mark.parametrize("order", ["q_after", "q_first"])
@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
def test_a_cut_leaves_what_answers_the_question(order: str, tokenizer: str) -> None:
    """The whole question on its side, all supporting paragraphs, the answer; every cut is counted."""
    limit = 160 if tokenizer == "world" else 420
    task, built = make("hotpot", order=order, tokenizer=tokenizer, max_prompt_tokens=limit, **SMALL)
    rows = rows_by_question(hotpot.splits())
    cut = {"train": 0, "validation": 0}
    for split, examples in (("train", built.train), ("validation", built.validation)):
        for example in examples:
            question, context = question_and_context(task, example)
            row = rows[question]
            for title, sentences in zip(row["context"]["title"], row["context"]["sentences"], strict=True):
                if title in row["supporting_facts"]["title"]:
                    assert f"\n\n{title}: {''.join(sentences)}" in context
            if row["type"] == "bridge":
                assert task.render(example)[1].strip() in context
            blocks = [block for block in context.split("\n\n") if block]
            assert len(blocks) < 10
            assert example.prompt_len == limit
            assert example.remarks == (CUT,)
            cut[split] += 1
    assert {split: counts[CUT] for split, counts in built.counts.items()} == cut


def test_both_orders_have_the_same_lengths() -> None:
    """So that a limit on the length keeps the same rows in both, and cuts them in the same way."""
    for limit in (2048, 200):
        contexts = []
        for order in ("q_after", "q_first"):
            task, built = make("hotpot", order=order, max_prompt_tokens=limit, n_train=104, n_val=70)
            contexts.append(dict(question_and_context(task, e) for e in every(built)))
        assert contexts[0] == contexts[1]
        assert len(contexts[0]) == 174


def test_every_filter_is_counted() -> None:
    """Each kind of bad row is under its own reason, and nothing is lost."""
    once = {
        "empty question": 1,
        "empty answer": 1,
        "supporting paragraph that is not in the context": 3,
        "answer longer than max_answer_tokens": 1,
    }
    both = {"document of the other split": 3, "source of the other split": 13}
    assert left_out("hotpot") == {"train": {**once, **both}, "validation": once}


def test_min_prompt_tokens_leaves_out() -> None:
    """Prompts below the limit are counted and not there."""
    lengths = [e.prompt_len for e in every(make("hotpot", n_train=104, n_val=70)[1])]
    limit = sorted(lengths)[len(lengths) // 2]
    removed = left_out("hotpot", min_prompt_tokens=limit)
    too_short = sum(counts.get("prompt shorter than min_prompt_tokens", 0) for counts in removed.values())
    assert too_short >= sum(length < limit for length in lengths) > 0
    _, built = make("hotpot", min_prompt_tokens=limit, n_train=5, n_val=5)
    assert min(e.prompt_len for e in every(built)) >= limit


def test_splits_share_neither_question_nor_paragraph() -> None:
    """Though the table has shared villages, and questions in both, differently written."""
    _, built = make("hotpot", n_train=104, n_val=70)
    assert_apart(built)
    assert any("validation" in title for row in hotpot.splits()["train"] for title in row["context"]["title"])
    assert not any("alidation" in name for e in built.train for name in (e.document, *e.sources))


def test_the_seed_decides_the_examples() -> None:
    """Same seed, same bytes; another seed, other rows."""
    assert_seeded("hotpot", **SMALL)
    assert_seeded("hotpot", tokenizer="bytes", max_prompt_tokens=420, **SMALL)


def test_levels() -> None:
    """Chance is a guess among all tokens; majority always gives the same one."""
    task, built = make("hotpot", tokenizer="bytes", **SMALL)
    everything = range(task.vocab_size)
    assert_chance(task, built.validation, lambda _: everything)
    assert_majority(task, built)


class Endless(Sequence[Row]):
    """90,000 rows that are made when they are read."""

    def __init__(self, split: str) -> None:
        self.split = split
        self.read = 0

    def __len__(self) -> int:
        return 90_000

    def __getitem__(self, place: Any) -> Row:
        self.read += 1
        return hotpot.row(self.split, place)


def test_only_the_rows_that_are_needed_are_read() -> None:
    """Of a long table as many rows as become examples, those left out, and one for its columns."""
    train, validation = Endless("train"), Endless("validation")
    _, built = make("hotpot", sources=Given(train, validation), **SMALL)
    assert train.read == built.counts["train"]["candidates"] + 1 < 100
    assert validation.read == 51


def fetched_squad(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    rows = [
        {**row, "split": split}
        for split, rows in squad.splits().items()
        for row in rows
        if (split, row["title"]) != ("train", squad.SHARED) and not row["title"].endswith("_Odd")
    ]
    return fetch(folder, monkeypatch, "squad", rows)


def test_squad_distractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten paragraphs, the own one anywhere, the others of other articles and without the answer."""
    sources = fetched_squad(tmp_path, monkeypatch)
    task, built = make("hotpot", sources=sources, source="squad_distractor", n_train=100, n_val=50)
    rows = rows_by_question(squad.splits())
    paragraphs = {" ".join(r["context"].split()): r["title"].replace("_", " ") for r in rows.values()}
    places = Counter[int]()
    for example in every(built):
        question, context = question_and_context(task, example)
        row = rows[question]
        blocks = context.removeprefix("\n\n").split("\n\n")
        assert len(blocks) == 10
        texts = [block.split(": ", 1)[1] for block in blocks]
        assert all(block == f"{paragraphs[text]}: {text}" for block, text in zip(blocks, texts, strict=True))
        own = " ".join(row["context"].split())
        assert texts.count(own) == 1
        places[texts.index(own)] += 1
        answer = task.render(example)[1].strip()
        assert answer == row["answers"]["text"][0]
        for text in texts:
            if text != own:
                assert paragraphs[text] != paragraphs[own]
                assert answer.casefold() not in text.casefold()
    assert set(places) == set(range(10))
    assert max(places.values()) < 15 + 4 * 15**0.5
    assert_apart(built)


def test_squad_distractor_rows_are_a_function_of_the_table() -> None:
    """Another seed chooses other rows, but a row is the same whenever it is read."""
    rows = squad.splits()["train"]
    first, again = SquadDistractor(rows), SquadDistractor(rows)
    assert len(first) == len(rows)
    assert [first[i] for i in range(len(rows))] == [again[i] for i in reversed(range(len(rows)))][::-1]


def test_squad_distractor_says_what_it_is() -> None:
    """The label has the source, and no network is needed."""
    arguments = {"source": "squad_distractor"}
    assert label("hotpot", arguments) == "hotpot q_after squad_distractor"
    assert create("hotpot", arguments).arguments.download is None
    assert create("hotpot", {}).arguments.download == "hotpotqa/hotpot_qa"


def test_another_data_set_is_refused_in_words() -> None:
    """Missing columns are named."""
    rows = squad.splits()["train"]
    with pytest.raises(DataRefused, match=r"hotpotqa/hotpot_qa has no column 'answer' or 'context.title' or"):
        make("hotpot", sources=Given(rows, rows))
