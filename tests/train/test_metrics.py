"""A task's metrics: of the right tokens of the right examples, and in a worker as recomputed plainly."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fsearch.tasks import create, prepared
from fsearch.tasks.infill import Infill, InfillArguments
from fsearch.tasks.task import Answered, Example
from fsearch.tokenizer import Bytes
from fsearch.train.batches import Examples
from fsearch.train.evaluate import Scores, evaluate
from fsearch.train.metrics import metrics
from fsearch.train.network import Network
from tests.tables import Tables
from tests.train.conftest import MakeJob
from tests.train.processes import ZygoteProcess
from tests.train.variable_split import variable_split

STEPS = 300


class Keeping(Infill):
    """Keeps what it is asked about, and adds `more` to the metrics."""

    def __init__(self, **more: float) -> None:
        super().__init__(InfillArguments())
        self.more = more
        self.seen: Sequence[Answered] = ()

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        self.seen = answered
        return super().metrics(answered) | self.more


def scores_of(splits: Sequence[prepared.Split], choices: int | None) -> Scores:
    """Every scored token predicted as its place among all of them, its logits the same and a fraction."""
    total = np.array([split.example(i).scored.sum() for split in splits for i in range(len(split))], np.int32)
    count = int(total.sum())
    logits = None if choices is None else np.arange(count)[:, None] + np.arange(choices) / 8
    return Scores(
        correct=np.zeros_like(total),
        total=total,
        loss=np.ones(len(total)),
        predicted=np.arange(count, dtype=np.int32),
        choice_logits=None if logits is None else logits.astype(np.float32),
    )


@pytest.mark.parametrize("choices", [None, 3])
def test_every_example_is_asked_about_with_its_own_tokens(choices: int | None) -> None:
    """Examples of two splits in order, each with the predictions and logits of its scored places."""
    splits = [variable_split(0), variable_split(1, n=4)]
    task = Keeping()
    found = metrics(task, splits, scores_of(splits, choices))
    assert len(task.seen) == 23 + 4
    place = 0
    for i, answered in enumerate(task.seen):
        wanted = splits[0].example(i) if i < 23 else splits[1].example(i - 23)
        assert answered.example.tokens.tolist() == wanted.tokens.tolist()
        assert answered.example.document == wanted.document
        places = list(range(place, place := place + int(wanted.scored.sum())))
        assert answered.predicted.tolist() == places
        if choices is None:
            assert answered.choice_logits is None
        else:
            assert answered.choice_logits is not None
            assert answered.choice_logits.tolist() == [[p, p + 1 / 8, p + 2 / 8] for p in places]
    assert found == {"whole_answer": 0.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float32(-np.inf)])
def test_a_metric_that_is_no_number_is_an_error(bad: float) -> None:
    """The sentence names the task and the metric."""
    splits = [variable_split()]
    with pytest.raises(ValueError, match=r"the metric f1_comma of the task infill came to -?(nan|inf) on 23"):
        metrics(Keeping(f1_comma=bad), splits, scores_of(splits, None))


def test_metrics_are_plain_numbers() -> None:
    """What a task computed with numpy is written down like any other number."""
    splits = [variable_split()]
    found = metrics(Keeping(f1=np.float32(0.5)), splits, scores_of(splits, None))
    assert found == {"whole_answer": 0.0, "f1": 0.5} and {type(value) for value in found.values()} == {float}


# In a worker


def test_whole_answers_are_those_of_the_examples(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """`whole_answer` of the headline half is the share of examples whose packed scores are all right."""
    for halves in (["screen", "confirm"], ["all"]):
        result = shared_zygote.fork(make_job(halves=halves, steps=STEPS)).finish()
        packed = result["examples"][halves[-1]]
        correct, total = (
            np.frombuffer(base64.b64decode(packed[name]), "<i4") for name in ("correct", "total")
        )
        whole = float((correct == total).mean())
        assert 0 < whole < 1
        assert result["metrics"] == {"whole_answer": whole}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> prepared.Prepared:
    """A small Sudoku data set: boards of 4x4 with a few blanks."""
    arguments = {"mask_count": 3, "n_train": 512, "n_val": 64}
    return prepared.prepare("sudoku", arguments, 0, tmp_path_factory.mktemp("boards"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> prepared.Prepared:
    """A small ARC data set, in bytes: the answer is one of the letters that the task chooses among."""
    arguments = {"tokenizer": "bytes", "n_train": 90, "n_val": 60}
    folder = tmp_path_factory.mktemp("questions")
    return prepared.prepare("arc", arguments, 0, folder, sources=Tables(folder))


def trained(
    data: prepared.Prepared, job: dict[str, Any], zygote: ZygoteProcess
) -> tuple[dict[str, float], Network]:
    """The metrics that a worker reports, and the network of its last checkpoint, read without the trainer."""
    job["data"] = {"path": str(data.path), "sha256": data.meta.sha256}
    result = zygote.fork(job).finish()
    assert result["late_torch_imports"] == []
    content = Path(job["checkpoint"]["path"]).read_bytes()
    payload = content[content.index(b"\n") + 1 + 32 :]
    state = torch.load(io.BytesIO(payload), weights_only=True)["state"]
    assert state["step"] == job["steps"]
    network = Network.from_job(job, data.meta.vocab_size)
    network.load_state_dict(state["network"])
    return result["metrics"], network


def logits_of(network: Network, example: Example) -> NDArray[np.float64]:
    """[S, V]: at the scored places of one example, without padding and without a batch."""
    tokens = torch.from_numpy(example.tokens.astype(np.int64))[None]
    with torch.no_grad():
        logits = network.model(tokens, torch.tensor([example.prompt_len]), network.future_seed)[0]
    return logits.double().numpy()[np.flatnonzero(example.scored)]


def test_a_workers_metrics_are_those_of_its_predictions(
    boards: prepared.Prepared, make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """Cells and boards of a worker equal those counted from the arg max of the trained network's logits,
    one example at a time; so they do in evaluation batches of any size."""
    checkpoint = {"path": str(tmp_path / "checkpoint"), "every_s": 0.0}
    job = make_job(halves=["screen", "confirm"], steps=STEPS, checkpoint=checkpoint)
    reported, network = trained(boards, job, shared_zygote)
    split = boards.split("confirm")
    right = []
    for i in range(len(split)):
        example = split.example(i)
        wanted = example.targets[example.scored]
        right.append(
            [row.argmax() == token for row, token in zip(logits_of(network, example), wanted, strict=True)]
        )
    cells = sum(map(sum, right)) / sum(map(len, right))
    whole = sum(map(all, right)) / len(right)
    assert 0 < whole < cells < 1
    assert reported == {"whole_answer": whole, "boards": whole, "cells": pytest.approx(cells, abs=1e-15)}

    task = create(boards.meta.task, boards.meta.arguments)
    examples = Examples([split], only_scored=True)
    for batch_size in (1, 7, 1000):
        scores = evaluate(network, examples, np.arange(len(split)), batch_size, lambda: None)
        assert metrics(task, [split], scores) == reported


def test_a_workers_choices_are_those_of_its_logits(
    questions: prepared.Prepared, make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """The accuracy and the likelihood of choosing among the letters equal those of a softmax by hand over the
    logits of the letters that stand in the prompt."""
    checkpoint = {"path": str(tmp_path / "checkpoint"), "every_s": 0.0}
    job = make_job(halves=["all"], steps=12, batch=8, micro_batch=4, checkpoint=checkpoint)
    reported, network = trained(questions, job, shared_zygote)
    chosen, likelihood = [], []
    for name in ("screen", "confirm"):
        split = questions.split(name)
        for i in range(len(split)):
            example = split.example(i)
            prompt = Bytes().decode(example.tokens[: example.prompt_len])
            letters = re.findall(r"^([A-E])\. ", prompt, re.MULTILINE)
            (row,) = logits_of(network, example)
            options = np.array([row[Bytes().encode(letter)[0]] for letter in letters])
            place = letters.index(Bytes().decode(example.targets[example.scored]))
            chosen.append(options.argmax() == place)
            likelihood.append(1 / np.exp(options - options[place]).sum())
    assert len(chosen) == 60 and 0 < np.mean(chosen) < 1
    assert reported["choice_accuracy"] == np.mean(chosen)
    assert reported["choice_likelihood"] == pytest.approx(np.mean(likelihood), rel=1e-5)
