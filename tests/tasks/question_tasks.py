"""What the tests of arc, hotpot and squad share: rows by hand, counts added up, guessers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import DataShort, Sources, create
from fsearch.tasks.sources import Row, Rows
from fsearch.tasks.task import Built, Example, Task
from fsearch.tasks.text import CUT
from tests.tables import Tables

MORE_THAN_THERE_IS = {"n_train": 10_000, "n_val": 10_000}


class Given(Sources):
    """Sources with the same rows at every hub."""

    def __init__(self, train: Rows, validation: Rows) -> None:
        super().__init__()
        self.splits = {"train": train, "validation": validation}

    def hub(self, repo: str, config: str | None, split: str, revision: str = "main") -> Rows:
        return self.splits[split]


def make(
    name: str, seed: int = 0, sources: Sources | None = None, **arguments: Any
) -> tuple[Task[Any], Built]:
    task = create(name, arguments)
    return task, task.build(seed, sources or Tables())


def one(name: str, row: Row, others: Sequence[Row], **arguments: Any) -> tuple[Task[Any], Example]:
    """The example that `row` becomes; `others` are two rows that have nothing to do with it."""
    task, built = make(name, sources=Given([row], others), n_train=1, n_val=2, **arguments)
    return task, built.train[0]


def every(built: Built) -> list[Example]:
    return [*built.train, *built.validation]


def left_out(name: str, **arguments: Any) -> dict[str, dict[str, int]]:
    """How many candidates each filter removes from the tables, by split; all are accounted for."""
    with pytest.raises(DataShort) as caught:
        make(name, **{**MORE_THAN_THERE_IS, **arguments})
    removed = {}
    for split, counts in caught.value.counts.items():
        others = ("candidates", "built", "asked for", CUT)
        removed[split] = {reason: n for reason, n in counts.items() if reason not in others}
        assert counts["candidates"] == counts["built"] + sum(removed[split].values())
    return removed


def fetch(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: Sequence[Row]) -> Sources:
    """Sources that find the table `name` where `fsearch data fetch` puts it."""
    monkeypatch.setenv("FSEARCH_DATA", str(folder))
    (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return Sources()


def assert_chance(
    task: Task[Any], validation: Sequence[Example], guesses: Callable[[Example], Sequence[int]]
) -> None:
    """`chance` is the score of guessing one of `guesses(example)` at each place, within 4 standard errors."""
    rng = np.random.default_rng(1)
    scores = []
    targets = [example.targets[example.scored] for example in validation]
    possible = [guesses(example) for example in validation]
    for _ in range(300):
        guessed = [rng.choice(p, len(t)) for p, t in zip(possible, targets, strict=True)]
        scores.append(np.mean([np.mean(g == t) for g, t in zip(guessed, targets, strict=True)]))
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert 0 < error < 0.005
    assert task.chance(validation) == pytest.approx(np.mean(scores), abs=4 * error)


def assert_majority(task: Task[Any], built: Built) -> list[float]:
    """`majority` is what the most frequent scored target of training scores in validation: those scores."""
    counter = Counter[int]()
    for example in built.train:
        counter.update(example.targets[example.scored].tolist())
    answer = max(counter, key=lambda token: (counter[token], -token))
    scores = []
    for example in built.validation:
        wanted = example.targets[example.scored].tolist()
        scores.append(wanted.count(answer) / len(wanted))
    assert task.majority(built.train, built.validation) == pytest.approx(sum(scores) / len(scores), abs=1e-12)
    return scores


def content(built: Built) -> list[Mapping[str, Any]]:
    return [
        {
            "tokens": e.tokens.tobytes(),
            "targets": e.targets.tobytes(),
            "scored": e.scored.tobytes(),
            "prompt": e.prompt_len,
            "document": e.document,
            "sources": e.sources,
        }
        for e in every(built)
    ]


def assert_seeded(name: str, **arguments: Any) -> None:
    """The seed decides the examples, all of them, and nothing else does."""
    first, again, other = (content(make(name, seed, **arguments)[1]) for seed in (3, 3, 4))
    assert first == again
    assert {e["document"] for e in first} != {e["document"] for e in other}


def assert_apart(built: Built) -> None:
    """What a validation example was made from is in no training example."""
    validation = {e.document for e in built.validation}.union(*(e.sources for e in built.validation))
    assert validation.isdisjoint(e.document for e in built.train)
    assert all(validation.isdisjoint(e.sources) for e in built.train)
