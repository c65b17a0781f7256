"""sft: rows of files and data sets through templates, as a plan has them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fsearch.plan import PlanError, parse
from fsearch.tasks import DataShort, create, label, schemas
from fsearch.tasks.sft import Sft
from fsearch.tasks.sources import DataRefused, Row
from fsearch.tasks.task import Built, Example, Task
from fsearch.tasks.text import CUT, Part
from tests.tables import Tables, squad

TOPICS = ("rain", "wind", "snow")
SMALL = {"n_train": 60, "n_val": 12, "prompt": "{text}\nTopic:", "answer": " {topic}", "val_share": 0.3}

PLAN = """\
name: mine
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 1.0e-3}
stages: [{name: only, steps: 10, seeds: 3}]
variants: [scalar_l1]
tasks:
  - task: sft
    batch: 4
    data: DATA
    prompt: "{text}\\nTopic:"
    answer: " {topic}"
"""


def rows(n: int = 120) -> list[dict[str, Any]]:
    """Distinct texts of growing length, three topics; a row without a topic at the end."""
    made = [{"text": f"On day {i} it was{' very' * (i % 7)} wet.", "topic": TOPICS[i % 3]} for i in range(n)]
    return [*made, {"text": "On no day at all.", "topic": None}]


def write_jsonl(path: Path, table: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))


def write_csv(path: Path, table: Sequence[Row]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def write_parquet(path: Path, table: Sequence[Row]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(list(table)), path)


WRITERS: dict[str, Callable[[Path, Sequence[Row]], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


def make(data: Path | str, arguments: dict[str, Any] | None = None, seed: int = 0) -> tuple[Task[Any], Built]:
    task = create("sft", {"data": str(data), **SMALL, **(arguments or {})})
    with Tables() as sources:
        return task, task.build(seed, sources)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "days.jsonl"
    write_jsonl(path, rows())
    return path


def texts(task: Task[Any], examples: Sequence[Example]) -> list[tuple[str, str]]:
    return [task.render(example) for example in examples]


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
def test_a_file_in_every_format_gives_the_same_examples(tmp_path: Path, tokenizer: str) -> None:
    """jsonl, csv and parquet: prompts and answers as the templates say, the row without an answer counted."""
    counts = []
    for suffix, write in WRITERS.items():
        path = tmp_path / f"days{suffix}"
        write(path, rows())
        task, built = make(path, {"tokenizer": tokenizer})
        expected = {(f"{row['text']}\nTopic:", f" {row['topic']}") for row in rows()[:-1]}
        found = texts(task, [*built.train, *built.validation])
        assert set(found) <= expected
        assert len(set(found)) == 72
        with pytest.raises(DataShort) as caught:
            make(path, {"tokenizer": tokenizer, "n_train": 1000, "n_val": 1000})
        counts.append(caught.value.counts)
    assert counts[0] == counts[1] == counts[2]
    assert sum(counts[0][split]["built"] for split in counts[0]) == 120
    assert sum(counts[0][split].get("nothing in {topic}", 0) for split in counts[0]) == 1


def test_two_folders_give_the_same_examples(tmp_path: Path) -> None:
    """Where a file lies does not decide which examples there are, nor in which order."""
    tokens = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "days.jsonl", rows())
        _, built = make(tmp_path / folder / "days.jsonl")
        tokens.append([example.tokens.tobytes() for example in built.train])
    assert tokens[0] == tokens[1]
    _, other = make(tmp_path / "here" / "days.jsonl", seed=1)
    assert tokens[0] != [example.tokens.tobytes() for example in other.train]


def test_a_pool_is_split_by_document(file: Path) -> None:
    """Rows of one document stay together; about val_share of the documents are for validation."""
    write_jsonl(file, [row | {"day": i // 4} for i, row in enumerate(rows(800))])
    task, built = make(file, {"document": "{day}", "val_share": 0.25, "n_train": 540, "n_val": 140})
    days = [{int(e.document) for e in split} for split in (built.train, built.validation)]
    assert days[0].isdisjoint(days[1])
    candidates = {split: counts["candidates"] for split, counts in built.counts.items()}
    assert candidates["validation"] / 801 == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 200))
    _, whole = make(file, {"n_train": 500, "n_val": 140})
    assert {e.document for e in whole.train} >= {prompt for prompt, _ in texts(task, whole.train)}


def test_a_data_set_of_the_hub_with_its_own_splits() -> None:
    """SQuAD by templates: nested columns, both splits, and no paragraph in both."""
    arguments = {
        "config": squad.CONFIG,
        "val_split": "validation",
        "prompt": "{context}\n\nQuestion: {question}\nAnswer:",
        "answer": " {answers.text.0}",
        "document": "{context}",
    }
    task, built = make(squad.REPO, arguments)
    table = squad.splits()
    for split, examples in (("train", built.train), ("validation", built.validation)):
        expected = {
            (
                f"{row['context']}\n\nQuestion: {row['question']}\nAnswer:",
                f" {row['answers']['text'][0]}" if row["answers"]["text"] else "",
            )
            for row in table[split]
        }
        assert set(texts(task, examples)) <= expected
    assert {e.document for e in built.train}.isdisjoint({e.document for e in built.validation})
    assert task.arguments.download == squad.REPO
    assert task.arguments.file is None


def test_only_the_context_is_cut(file: Path) -> None:
    """A long context loses its end and is counted; without one to cut, the example is left out."""
    cut = {"prompt": "Say: {text}\nTopic:", "tokenizer": "bytes", "max_prompt_tokens": 40}
    task, built = make(file, {**cut, "context": "text"})
    lengths = {
        split: [len(prompt) for prompt, _ in texts(task, getattr(built, split))]
        for split in ("train", "validation")
    }
    for split, found in lengths.items():
        assert max(found) == 40
        n_cut = built.counts[split][CUT]
        assert 0 < n_cut <= sum(length == 40 for length in found)
    assert all(re.fullmatch(r"Say: On day [^\n]*\nTopic:", prompt) for prompt, _ in texts(task, built.train))
    _, built = make(file, {**cut, "n_train": 20, "n_val": 4})
    assert built.counts["train"]["prompt longer than max_prompt_tokens"] > 0
    assert CUT not in built.counts["train"]


def test_symbols_are_encoded_one_by_one(tmp_path: Path) -> None:
    """symbols: a token a character, where the same text has fewer tokens."""
    path = tmp_path / "sums.jsonl"
    write_jsonl(path, [{"text": f"{i}+{i}=", "topic": str(100001 + 2 * i)} for i in range(90)])
    for symbols in (True, False):
        task, built = make(path, {"symbols": symbols, "answer": "{topic}", "prompt": "{text}"})
        for example in built.train:
            answer = task.render(example)[1]
            assert len(answer) == 6
            assert (example.scored.sum() == 6) == symbols


@pytest.mark.parametrize("symbols", [True, False])
def test_chance_is_that_of_guessing_an_answer(file: Path, symbols: bool) -> None:
    """answers: giving one of them at random scores `chance`; answers that are not among them are left out."""
    answers = [" rain", " wind", " sun is out"]
    task, built = make(file, {"answers": answers, "symbols": symbols, "n_train": 40})
    assert built.counts["train"]["answer that is not among answers"] > 0
    assert {answer for _, answer in texts(task, built.train)} == {" rain", " wind"}
    assert isinstance(task, Sft)
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(400):
        right = []
        for example in built.validation:
            given = task.encode(Part(answers[rng.integers(3)], symbols=symbols))
            wanted = example.targets[example.scored]
            right.append(sum(a == b for a, b in zip(given, wanted, strict=False)) / len(wanted))
        scores.append(np.mean(right))
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert task.chance(built.validation) == pytest.approx(np.mean(scores), abs=4 * error)
    assert task.chance(built.validation) > 0.3


def test_majority_is_the_most_frequent_answer_token(tmp_path: Path) -> None:
    """Of answers of one token, the share of the most frequent one of the training examples."""
    path = tmp_path / "days.jsonl"
    write_jsonl(path, [row | {"topic": "rain" if i % 4 else "snow"} for i, row in enumerate(rows())])
    task, built = make(path)
    assert {example.scored.sum() for example in built.train} == {1}
    answers = [answer for _, answer in texts(task, built.validation)]
    assert task.majority(built.train, built.validation) == pytest.approx(
        answers.count(" rain") / len(answers)
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prompt": "{txet}"}, "there is no column 'txet'; there are 'text', 'topic'"),
        ({"answer": "{topic.0}"}, "'topic' is a single value"),
        ({"document": "{day}"}, "there is no column 'day'"),
    ],
)
def test_unknown_columns_refuse_the_data(file: Path, arguments: dict[str, Any], says: str) -> None:
    """A field that the file does not have is told with the columns that it has."""
    with pytest.raises(DataRefused, match=re.escape(says)):
        make(file, arguments)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is refused by its path."""
    with pytest.raises(DataRefused, match=re.escape(str(tmp_path / "no.csv"))):
        make(tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("change", "line", "field", "says"),
    [
        (("{text}", "{text"), 10, "tasks[1].prompt", "is no template ("),
        (("{text}", "{text!r}"), 10, "tasks[1].prompt", "a format after the field 'text'"),
        ((" {topic}", " rain"), 11, "tasks[1].answer", "has no field, so that it is the same for every row"),
        (("DATA", "my data"), 9, "tasks[1].data", "'my data' is neither a data set such as owner/name nor a"),
        (("DATA", "notes.txt"), 9, "tasks[1].data", ".parquet, .jsonl, .json, .csv, .tsv"),
        (
            ("batch: 4", "batch: 4\n    config: plain"),
            9,
            "tasks[1].config",
            "and data is a file; leave it out",
        ),
        (
            ('{topic}"', '{topic}"\n    config: plain'),
            12,
            "tasks[1].config",
            "and data is a file; leave it out",
        ),
        (('{topic}"', '{topic}"\n    val_split: test'), 12, "tasks[1].val_split", "data is a file"),
        (
            ('{topic}"', '{topic}"\n    context: body'),
            12,
            "tasks[1].context",
            "must have the field {body} once",
        ),
        (('{topic}"', '{topic}"\n    val_share: 1'), 12, "tasks[1].val_share", "less than 1"),
    ],
)
def test_wrong_arguments_are_told_at_their_place(
    change: tuple[str, str], line: int, field: str, says: str
) -> None:
    """File, line, field and a sentence."""
    text = PLAN.replace(*change).replace("DATA", "notes.jsonl")
    assert text != PLAN
    with pytest.raises(PlanError) as caught:
        parse(text, schemas(), "plans/mine.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.place.line, problem.field) == ("plans/mine.yaml", line, field)
    assert says in problem.message


def test_val_split_must_be_another() -> None:
    """One split for both would train on what is measured."""
    with pytest.raises(ValidationError, match="train_split is 'train' too"):
        create("sft", {**SMALL, "data": "me/mine", "val_split": "train"})


def test_a_path_is_relative_to_the_plan() -> None:
    """The plan's folder, not that of whoever runs it; an absolute path and a data set stay as they are."""
    for data, file, expected in (
        ("notes.jsonl", "/plans/mine.yaml", "/plans/notes.jsonl"),
        ("../data/notes.CSV", "/plans/mine.yaml", "/data/notes.CSV"),
        ("/data/notes.csv", "/plans/mine.yaml", "/data/notes.csv"),
        ("me/my.notes", "/plans/mine.yaml", "me/my.notes"),
        ("notes.jsonl", "mine.yaml", str(Path("notes.jsonl").absolute())),
    ):
        (entry,) = parse(PLAN.replace("DATA", data), schemas(), file).entries
        assert entry.arguments["data"] == expected
        again = create("sft", entry.arguments).arguments
        assert again.model_dump(mode="json") == entry.arguments
        assert again.download == (data if data == "me/my.notes" else None)


def test_labels() -> None:
    """A label has the file's name and which fields make prompt and answer, not whole templates."""
    arguments = {"prompt": "{context}\n\n{question}\nAnswer:", "answer": " {answers.text.0}", "n_train": 64}
    shown = "context,question -> answers.text.0 n_train=64"
    assert label("sft", {"data": "/some/where/qa.parquet", **arguments}) == f"sft qa.parquet {shown}"
    assert label("sft", {"data": "me/qa", "config": "hard", **arguments}) == f"sft me/qa hard {shown}"
