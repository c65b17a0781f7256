"""Completions in a worker: the tokens that the network would choose, judged, and the same every time."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fsearch.tasks import create, prepared
from fsearch.tasks.task import END, answer_of
from fsearch.train import completions
from fsearch.train.memory import Memory
from fsearch.train.network import Network
from tests.train.conftest import MakeJob
from tests.train.processes import ZygoteProcess, numbers, run_cold

ARGUMENTS = {"n_train": 64, "n_val": 40, "n_keys": 4, "n_values": 3, "n_queries": 2}
SETTINGS = {"max_tokens": 40, "temperature": 0.0, "samples": 1, "examples": 12, "code_exec": "off"}
STEPS = 6


@pytest.fixture(scope="module")
def recall(tmp_path_factory: pytest.TempPathFactory) -> prepared.Prepared:
    return prepared.prepare("kv_recall", ARGUMENTS, 0, tmp_path_factory.mktemp("recall"))


def job_of(make_job: MakeJob, data: prepared.Prepared, *at: int, **settings: Any) -> dict[str, Any]:
    asked = {"every": None, "completions": {**SETTINGS, **settings}, "completions_at": list(at)}
    return make_job(
        data={"path": str(data.path), "sha256": data.meta.sha256},
        halves=["screen", "confirm"],
        batch=8,
        micro_batch=2,  # eight completions at a time
        steps=STEPS,
        evaluate=asked,
        streams={"init": 1, "order": 2, "completions": 3},
    )


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.said.append(fields["doing"])


def test_the_likeliest_tokens_one_after_another(make_job: MakeJob, recall: prepared.Prepared) -> None:
    """Each completion is what the argmax of whole forward passes over prompt and answer so far gives."""
    job = job_of(make_job, recall, max_tokens=5)
    network = Network.from_job(job, recall.meta.vocab_size)
    task = create(recall.meta.task, recall.meta.arguments)
    seen: list[Any] = []
    judge = task.judge

    def keep(completed: Any, *rest: Any) -> Any:
        seen.extend(completed)
        return judge(completed, *rest)

    task.judge = keep  # type: ignore[method-assign]
    listener: Any = Listener()
    asked = completions.asked_completions(job, task, listener, Memory(), lambda: None)
    assert asked is not None
    splits = [recall.split("screen"), recall.split("confirm")]
    found = asked.of(network, splits)
    examples = [split.example(i) for split in splits for i in range(len(split))]
    assert len(seen) == 12 and listener.said
    matches = []
    for one in seen:
        tokens = one.example.tokens[: one.example.prompt_len].tolist()
        for _ in range(5):
            with torch.no_grad():
                length = torch.tensor([one.example.prompt_len])
                logits = network.model(torch.tensor([tokens]), length, network.future_seed)[0, -1]
            if (token := int(logits.argmax())) == END:
                break
            tokens.append(token)
        given = tokens[one.example.prompt_len :]
        assert one.completions[0].tolist() == given
        matches.append(float(given == answer_of(one.example).tolist()))
    values = found.by_example["exact_match"]
    assert values.shape == (40,) and values[~np.isnan(values)].tolist() == matches
    assert found.figures["exact_match"] == np.mean(matches)
    judged = [examples[i].document for i in np.flatnonzero(~np.isnan(values))]
    assert judged == [one.example.document for one in seen]


def test_a_smaller_subset_is_in_a_larger_one(recall: prepared.Prepared) -> None:
    """By the hashes of the documents, whatever was asked; all of them where nothing is said."""
    splits = [recall.split("screen"), recall.split("confirm")]
    hashes = np.concatenate([split.document for split in splits])
    for count in (1, 5, 39):
        places = completions.subset(splits, count)
        assert len(places) == count and (np.diff(places) > 0).all()
        assert max(hashes[places]) < min(np.delete(hashes, places))
    assert completions.subset(splits, None).tolist() == list(range(40))
    assert completions.subset(splits, 1000).tolist() == list(range(40))


@pytest.fixture(scope="module")
def drawn(make_job: MakeJob, recall: prepared.Prepared) -> dict[str, Any]:
    """A job whose completions take a while."""
    return job_of(make_job, recall, 3, temperature=1.0, samples=3, max_tokens=120)


@pytest.fixture(scope="module")
def expected(drawn: dict[str, Any], shared_zygote: ZygoteProcess) -> dict[str, Any]:
    return numbers(shared_zygote.fork(drawn).finish())


def test_drawn_completions_in_a_cold_process(
    drawn: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    """The same figures to the digit as in a warm one."""
    assert expected["outcome"] == "completed"
    assert numbers(run_cold("attempt", drawn, tmp_path)) == expected


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_ended_while_they_are_generated(
    drawn: dict[str, Any],
    expected: dict[str, Any],
    shared_zygote: ZygoteProcess,
    tmp_path: Path,
    end: signal.Signals,
) -> None:
    """It goes on from its checkpoint and comes to the same figures to the digit."""
    every_s = 0.0 if end == signal.SIGKILL else 1000.0
    job = {**drawn, "checkpoint": {"path": str(tmp_path / "checkpoint"), "every_s": every_s}}
    first = shared_zygote.fork(job)
    first.wait_for(lambda message: message["type"] == "evaluation" and message["half"] == "confirm")
    os.kill(first.pid, end)
    shared_zygote.exited(first)
    first.read()
    results = [message["outcome"] for message in first.messages if message["type"] == "result"]
    assert results == ([] if end == signal.SIGKILL else ["interrupted"])
    second = shared_zygote.fork(job)
    resumed = second.finish()
    assert resumed["resumed_from_step"] == STEPS
    assert numbers(resumed) == expected
    curve = [message for message in second.messages if message["type"] == "evaluation"]
    assert [point["step"] for point in curve if "metrics" in point] == [3]


def test_ended_while_those_of_a_step_on_the_way_are_generated(
    drawn: dict[str, Any], shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """What was half done is done again: the point of the curve is there with its figures, once."""

    def points(messages: list[Any]) -> list[Any]:
        return [message for message in messages if message["type"] == "evaluation"]

    whole = shared_zygote.fork(drawn)
    expected = numbers(whole.finish())
    job = {**drawn, "checkpoint": {"path": str(tmp_path / "checkpoint"), "every_s": 1000.0}}
    first = shared_zygote.fork(job)
    first.wait_for(lambda message: message["type"] == "progress" and "doing" in message)
    os.kill(first.pid, signal.SIGTERM)
    assert first.finish()["outcome"] == "interrupted" and points(first.messages) == []
    second = shared_zygote.fork(job)
    assert numbers(second.finish()) == expected
    assert points(second.messages) == points(whole.messages)


def test_what_a_result_says_of_completions(
    make_job: MakeJob, recall: prepared.Prepared, shared_zygote: ZygoteProcess
) -> None:
    """Figures of both halves, values of single examples, and the same training as without completions."""
    worker = shared_zygote.fork(job_of(make_job, recall, 2, temperature=0.7, samples=2))
    result = worker.finish()
    for half, name in (("screen", "screen_metrics"), ("confirm", "metrics")):
        values = np.frombuffer(base64.b64decode(result["example_metrics"][half]["exact_match"]), "<f8")
        assert len(values) == len(recall.split(half))
        assert (~np.isnan(values)).sum() == min(12, len(values))
        assert result[name]["exact_match"] == np.nanmean(values)
        assert {"whole_answer", "completions_cut"} <= set(result[name])
    assert result["unavailable"] == {} and result["seconds"]["generate"] > 0
    bare = job_of(make_job, recall)
    bare["evaluate"], bare["streams"] = {"every": None}, {"init": 1, "order": 2}
    without = shared_zygote.fork(bare).finish()
    for name in ("score", "loss", "screen_score", "weights_sha256", "examples", "first_losses"):
        assert without[name] == result[name]
    assert "generate" not in without["seconds"] and without["example_metrics"] == {}
    assert set(without["metrics"]) == {"whole_answer"}


def test_a_probe_tries_the_longest_prompts(
    make_job: MakeJob, recall: prepared.Prepared, shared_zygote: ZygoteProcess
) -> None:
    """It generates, so that its peak has what completions take, and says nothing of what they are worth."""
    job = job_of(make_job, recall, samples=4, temperature=1.0) | {
        "role": "probe",
        "halves": ["all"],
        "steps": 2,
    }
    result = shared_zygote.fork(job).finish()
    assert result["outcome"] == "completed" and result["seconds"]["generate"] > 0
    assert result["metrics"] == {} and result["example_metrics"] == {}
