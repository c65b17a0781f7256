"""The look into a run, in real workers: it stops what is below its bound and changes nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.conftest import MakeJob
from tests.train.processes import Worker, ZygoteProcess, kill, numbers

STEPS, AT = 60, 22

Looked = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def looked(make_job: MakeJob) -> Looked:
    """Makes a job whose run is looked at after 22 of 60 steps; `below` is what it is held against."""

    def make(below: float | None = None, **fields: Any) -> dict[str, Any]:
        look = None if below is None else {"step": AT, "baseline_score": 0.5, "below": below}
        return make_job(steps=STEPS, evaluate={"every": 25, "look": AT}, look=look, **fields)

    return make


@pytest.fixture(scope="module")
def score(looked: Looked, shared_zygote: ZygoteProcess) -> float:
    """What the run scores at its look."""
    return float(shared_zygote.fork(looked()).finish()["look_score"])


def curve(worker: Worker) -> list[tuple[int, float]]:
    return [(point["step"], point["score"]) for point in worker.messages if point["type"] == "evaluation"]


def test_a_look_changes_no_number(make_job: MakeJob, looked: Looked, shared_zygote: ZygoteProcess) -> None:
    """With a look that stops nothing, and without one: the same to the digit, but for one more point."""
    plain = shared_zygote.fork(make_job(steps=STEPS, evaluate={"every": 25}))
    never = shared_zygote.fork(make_job(steps=STEPS))
    expected = numbers(plain.finish())
    assert numbers(never.finish()) == expected and expected["look_score"] is None
    for job in (looked(), looked(below=-1.0)):
        worker = shared_zygote.fork(job)
        found = numbers(worker.finish())
        ((at, score),) = set(curve(worker)) - set(curve(plain))
        assert at == AT and found["look_score"] == score
        assert found == expected | {"look_score": score}


def test_below_the_bound_it_is_stopped(looked: Looked, shared_zygote: ZygoteProcess, score: float) -> None:
    """At the step of the look, with the numbers in the sentence and without a score."""
    worker = shared_zygote.fork(looked(below=float(np.nextafter(score, 2.0))))
    result = worker.finish()
    assert (result["outcome"], result["steps"], result["look_score"]) == ("stopped_early", AT, score)
    assert (result["score"], result["loss"], result["metrics"], result["examples"]) == (None, None, {}, {})
    for told in (f"after {AT} of {STEPS} steps", f"{score * 100:.2f} %", "baseline's 50.00 %"):
        assert told in result["reason"]
    assert curve(worker) == [(AT, score)]


def test_at_the_bound_it_goes_on(looked: Looked, shared_zygote: ZygoteProcess, score: float) -> None:
    """Equal is not below."""
    result = shared_zygote.fork(looked(below=score)).finish()
    assert (result["outcome"], result["steps"], result["look_score"]) == ("completed", STEPS, score)


def test_a_look_at_a_point_of_the_curve_is_that_point(
    make_job: MakeJob, shared_zygote: ZygoteProcess, score: float
) -> None:
    """It is not evaluated twice, and decides all the same."""
    look = {"step": AT, "baseline_score": 0.5, "below": 1.0}
    worker = shared_zygote.fork(make_job(steps=STEPS, evaluate={"every": 11, "look": AT}, look=look))
    assert worker.finish()["outcome"] == "stopped_early"
    assert [step for step, _ in curve(worker)] == [11, 22] and curve(worker)[-1][1] == score


def test_killed_at_the_look_it_is_stopped_again(
    looked: Looked, shared_zygote: ZygoteProcess, score: float, tmp_path: Path
) -> None:
    """Between the look and the next checkpoint nothing is kept of it: it is looked at again, and ends so."""
    below = float(np.nextafter(score, 2.0))
    expected = shared_zygote.fork(looked(below=below)).finish()
    job = looked(below=below, checkpoint={"path": str(tmp_path / "checkpoint"), "every_s": 0.0})
    first = shared_zygote.fork(job)
    first.wait_for(lambda message: message["type"] == "evaluation")
    kill(first.pid)
    shared_zygote.exited(first)
    resumed = shared_zygote.fork(job).finish()
    assert resumed["resumed_from_step"] == AT
    assert numbers(resumed) == numbers(expected) and resumed["outcome"] == "stopped_early"


def test_stopped_after_the_look_it_goes_on(
    looked: Looked, shared_zygote: ZygoteProcess, score: float, tmp_path: Path
) -> None:
    """A run that has passed its look keeps its score there over an interruption, and is not held up again."""
    expected = shared_zygote.fork(looked(below=score)).finish()
    job = looked(below=score, checkpoint={"path": str(tmp_path / "checkpoint"), "every_s": 1000.0})
    first = shared_zygote.fork(job)
    first.wait_for(lambda message: message["type"] == "evaluation")
    os.kill(first.pid, signal.SIGTERM)
    interrupted = first.finish()
    assert interrupted["outcome"] == "interrupted" and AT <= interrupted["steps"] < STEPS
    second = shared_zygote.fork(job)
    resumed = second.finish()
    assert resumed["resumed_from_step"] == interrupted["steps"]
    assert numbers(resumed) == numbers(expected) and (AT, score) in curve(second)
