"""punctuation: noisy lines and their clean forms from four sources, notes, and scores for each mark."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fsearch.tasks import DataShort, Sources, create, label
from fsearch.tasks.punctuation import Punctuation, sentences, without_marks
from fsearch.tasks.sources import DataRefused
from fsearch.tasks.task import Answered, Built, Example, question_answer
from fsearch.tasks.text import Draft, Note, Part
from tests.tables import Tables, hotpot, wikitext

SMALL = {"n_train": 40, "n_val": 20, "min_chars": 40}
SOURCES = ["hotpot_qa", "squad", "wikitext", "offline"]
NOTED = {"fill_notes_to_max": True, "max_prompt_tokens": 200}
INTRODUCTION = "Restore the capital letters and the punctuation of the noisy line."


def make(
    arguments: dict[str, Any], sources: Sources | None = None, seed: int = 0
) -> tuple[Punctuation, Built]:
    task = create("punctuation", {**SMALL, **arguments})
    assert isinstance(task, Punctuation)
    return task, task.build(seed, sources or Tables())


def every(built: Built) -> list[Example]:
    return [*built.train, *built.validation]


def noisy_of(prompt: str) -> str:
    return prompt.split("\nNoisy: ")[1].split("\n")[0]


@pytest.mark.parametrize(
    ("line", "noisy"),
    [
        ("Is this it? Yes", "is this it yes"),
        ('He (Ed) said: "No, [never]; {not} I!"', "he ed said no never not i"),
        ("U.S. don't -- well", "u s don't -- well"),
    ],
)
def test_what_is_taken_away(line: str, noisy: str) -> None:
    """Capital letters become small, marks and runs of spaces one space; other characters stay."""
    assert without_marks(line) == noisy


def test_sentences_end_before_capital_letters() -> None:
    """A sentence ends at . ! ? before a capital letter, a quotation mark or a parenthesis."""
    paragraph = 'One is 3.5 m.  Is it?\n"Yes!" (Or not.) and so on. the end'
    assert sentences(paragraph) == ["One is 3.5 m.", "Is it?", '"Yes!" (Or not.) and so on. the end']


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
def test_prompt_and_answer_of_a_question(tokenizer: str) -> None:
    """hotpot_qa: question and answer, without marks in the prompt, as they were in the answer."""
    task, built = make({"tokenizer": tokenizer, "n_train": 10, "n_val": 60})
    texts = [task.render(example) for example in built.validation]
    (prompt,) = [prompt for prompt, answer in texts if "validation 1 " in answer]
    assert prompt == (
        f"{INTRODUCTION}\n\nNoisy: in which country was painter validation 1 born peru\nClean:\n"
    )
    assert (prompt, "In which country was Painter validation 1 born? Peru") in texts


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
def test_every_prompt_is_its_answer_without_marks(source: str, tokenizer: str) -> None:
    """The noisy line is the answer's; lengths are within bounds; nothing of the answer is constant."""
    task, built = make({"source": source, "tokenizer": tokenizer})
    texts = [task.render(example) for example in every(built)]
    for prompt, answer in texts:
        assert noisy_of(prompt) == without_marks(answer) != answer
        assert 40 <= len(answer) <= 220
        assert sum(map(str.isalpha, answer)) >= max(24, len(answer) // 3)
        assert "\n" not in answer
        assert "  " not in answer
        assert answer not in prompt
    if source != "hotpot_qa":  # whose questions all begin with the same words in the table
        assert len({answer[0] for _, answer in texts}) > 1


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_notes_never_have_the_answer(source: str, order: str) -> None:
    """Clean lines on the side that the order says; none is the answer or part of it, marks apart."""
    arguments = {"source": source, "order": order, **NOTED}
    task, built = make(arguments)
    for split in (built.train, built.validation):
        for example in split:
            assert example.prompt_len == 200
            prompt, answer = task.render(example)
            noisy = noisy_of(prompt)
            assert prompt.startswith(f"{INTRODUCTION}\n")
            before, after = prompt.removeprefix(INTRODUCTION).split(f"Noisy: {noisy}\n")
            notes = (before if order == "q_after" else after.removesuffix("Clean:\n")).split("\n")
            assert (after if order == "q_after" else before).strip("\n") == (
                "Clean:" if order == "q_after" else ""
            )
            notes = [without_marks(note) for note in notes if note]
            assert len(notes) >= 2
            for note in notes[:-1]:  # the last one may have been cut
                assert noisy not in note
                assert note not in noisy
            assert noisy not in notes[-1]
            assert answer not in prompt


@pytest.mark.parametrize(
    ("note", "document", "may"),
    [
        ("Was the old harbour ever rebuilt, yes?", "", False),
        ("He asked: was the old harbour ever rebuilt, yes?", "", False),
        ("Was the old harbour ever", "", False),
        ("Was the old harbour ever painted, yes?", "", True),
        ("Was the old harbour ever painted, yes?", "the same", False),
    ],
)
def test_which_lines_may_be_notes(note: str, document: str, may: bool) -> None:
    """No line of the same document, none that has the answer in another spelling, none that is part of it."""
    task = create("punctuation", {})
    assert isinstance(task, Punctuation)
    draft = Draft([], Part("Was the old Harbour ever rebuilt? Yes"), document="the same")
    assert task.may_note(Note(note, document), draft) == may


def test_documents_of_each_source() -> None:
    """A line of HotpotQA is its own document, of SQuAD it is its paragraph's, of WikiText its article's.

    No line, and nothing that lines were made from, is on both sides.
    """
    per_document = {"hotpot_qa": 1, "squad": 2, "wikitext": 9, "offline": 9}
    for source, most in per_document.items():
        arguments = {"source": source, "n_train": 56 if source == "squad" else 60, "n_val": 30}
        task, built = make(arguments)
        made_of = [
            frozenset[str]().union(*({e.document, *e.sources} for e in split))
            for split in (built.train, built.validation)
        ]
        assert made_of[0].isdisjoint(made_of[1])
        answers = [{task.render(e)[1].casefold() for e in split} for split in (built.train, built.validation)]
        assert answers[0].isdisjoint(answers[1])
        documents = [example.document for example in built.train]
        repeated = max(map(documents.count, documents))
        assert 1 <= repeated <= most
        assert (repeated == 1) == (source == "hotpot_qa")
    assert not {d for d in documents if d.startswith("article")}
    _, built = make({"source": "wikitext"})
    assert "article: Robert Boulter I" in {example.document for example in built.train}


def test_every_line_is_accounted_for() -> None:
    """Counts agree with the filters, applied by hand to the table's lines."""
    lines = [
        sentence
        for row in wikitext.splits()["validation"]
        if not row["text"].startswith(" =")
        for sentence in sentences(row["text"])
        if sentence
    ]
    short, long = ([line for line in lines if outside(len(line))] for outside in ((40).__gt__, (104).__lt__))
    kept = [line for line in lines if line not in short and line not in long]
    numbers = [line for line in kept if line.count(",") == 13]
    with pytest.raises(DataShort) as caught:
        make({"source": "wikitext", "n_val": 1000, "max_chars": 104, "n_train": 50})
    counts = dict(caught.value.counts["validation"])
    assert counts.pop("built") == len(set(kept)) - len(set(numbers)) > 0
    counts.pop("repeats another example", None)
    assert counts == {
        "candidates": len(lines),
        "shorter than min_chars": len(short),
        "longer than max_chars": len(long),
        "too few letters": len(numbers),
        "asked for": 1000,
    }
    assert 0 not in counts.values()


def answered(task: Punctuation, target: str, given: Sequence[str | None]) -> Answered:
    """What was answered to one token: `given[i]` in place of target token i, None for the same."""
    tokens = task.tokens.encode(target)
    example = question_answer(np.array([1], np.int32), tokens, "")
    predicted = tokens.copy()
    assert len(given) == len(tokens)
    for place, text in enumerate(given):
        if text is not None:
            (predicted[place],) = task.tokens.encode(text)
    return Answered(example, predicted, None)


def test_scores_of_marks_by_hand() -> None:
    """Bytes: three of the table's four cells for each mark, and marks that are nowhere left out."""
    task, _ = make({"tokenizer": "bytes"})
    whole = answered(task, "Ab, c.", [None] * 6)
    half = answered(task, "A, B. C.", ["a", ".", None, None, None, None, None, "!"])
    scores = task.metrics([whole, half])
    # comma: right once, missed once. period: right twice (one of each answer), given once for a comma,
    # missed once for an exclamation mark, which is given once. "A", "B", "C" and "A": one of four is wrong.
    assert scores == {
        "whole_answer": 0.5,
        "f1_comma": pytest.approx(2 * 1 / (2 * 1 + 0 + 1)),
        "f1_period": pytest.approx(2 * 2 / (2 * 2 + 1 + 1)),
        "f1_exclamation": 0.0,
        "f1_marks": pytest.approx(2 * 3 / (2 * 3 + 2 + 2)),
        "case_accuracy": pytest.approx(3 / 4),
    }
    nothing = answered(task, "ab", [None, "c"])
    assert task.metrics([nothing]) == {"whole_answer": 0.0}


def test_scores_of_tokens_with_several_marks() -> None:
    """World: a token may hold several marks and letters; they are matched as a multiset."""
    task, _ = make({})
    (token,) = task.tokens.encode('."')
    example = question_answer(np.array([1], np.int32), np.array([token], np.int32), "")
    (given,) = task.tokens.encode("..")
    scores = task.metrics([Answered(example, np.array([given], np.int32), None)])
    assert scores["f1_period"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 0))
    assert scores["f1_quotation"] == 0.0
    assert scores["f1_marks"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_offline_names_its_file_and_refuses_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's help texts are an origin; a Python without them is told in a sentence."""
    sources = Sources()
    _, built = make({"source": "offline", "n_train": 1200, "n_val": 240, "min_chars": 64}, sources)
    (origin,) = sources.origins
    assert Path(origin.name).is_absolute()
    assert sources.unchanged(origin)
    assert len(built.train) == 1200
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataRefused, match=r"pydoc_data/topics\.py"):
        make({"source": "offline"}, Sources())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min_chars": 100, "max_chars": 99}, "min_chars is 100, above max_chars, which is 99"),
        ({"order": "q_first"}, "add fill_notes_to_max: true"),
        ({"source": "ag_news"}, "'hotpot_qa', 'squad', 'wikitext' or 'offline'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], says: str) -> None:
    """What does not fit together is refused in words."""
    with pytest.raises(ValidationError, match=says):
        create("punctuation", arguments)


def test_levels() -> None:
    """chance is the score of random tokens; majority that of the most frequent character, the space."""
    task, built = make({"tokenizer": "bytes", "source": "offline", "n_train": 400, "n_val": 200})
    targets = [example.targets[example.scored] for example in built.validation]
    rng = np.random.default_rng(0)
    scores = [np.mean([np.mean(rng.integers(257, size=len(t)) == t) for t in targets]) for _ in range(100)]
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert task.chance(built.validation) == pytest.approx(np.mean(scores), abs=4 * error)
    answers = [task.render(example)[1] for example in built.validation]
    by_hand = np.mean([answer.count(" ") / len(answer.encode()) for answer in answers])
    assert task.majority(built.train, built.validation) == pytest.approx(by_hand)


@pytest.mark.parametrize("source", SOURCES)
def test_the_seed_decides(source: str) -> None:
    """The same seed gives the same tokens, another one others."""
    arguments = {"source": source, **NOTED}
    (_, first), (_, again), (_, other) = (make(arguments, seed=seed) for seed in (1, 1, 2))
    assert [e.tokens.tobytes() for e in first.train] == [e.tokens.tobytes() for e in again.train]
    assert [e.tokens.tobytes() for e in first.train] != [e.tokens.tobytes() for e in other.train]


def test_labels_and_downloads() -> None:
    """A label names order and source; each source at the hub is what is downloaded."""
    assert label("punctuation", {"source": "squad"}) == "punctuation q_after squad"
    assert create("punctuation", {}).arguments.download == hotpot.REPO
    assert create("punctuation", {"source": "wikitext"}).arguments.download == wikitext.REPO
    assert create("punctuation", {"source": "offline"}).arguments.download is None
