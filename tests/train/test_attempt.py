"""One attempt: its numbers depend on its job alone, and it ends in the right words."""

from __future__ import annotations

import base64
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import prepared
from fsearch.train import checkpoint
from tests.train.conftest import SEED_FORM, MakeJob
from tests.train.processes import Worker, ZygoteProcess, kill, numbers

BASELINE = {"gate": "none", "stream": 0}
INPUT = {"gate": "input", "weight_lr": 0.01, "bias_lr": 0.02}
DRAFTS = {"gate": "head", "alpha_head": -3.0, "alpha_head_lr": 5e-4, "alpha": -3.0, "alpha_lr": 0.0}


def unpacked(result: dict[str, Any], half: str) -> dict[str, np.ndarray[Any, Any]]:
    """The per-example arrays of a result."""
    kinds = {"correct": "<i4", "total": "<i4", "loss": "<f8"}
    packed = result["examples"][half]
    return {name: np.frombuffer(base64.b64decode(packed[name]), kind) for name, kind in kinds.items()}


def test_a_result_adds_up(make_job: MakeJob, shared_zygote: ZygoteProcess, data: prepared.Prepared) -> None:
    """Scores and losses of a result are those of its per-example arrays, and every example is there once."""
    job = make_job(halves=["screen", "confirm"], evaluate={"every": 2}, micro_batch=8)
    worker = shared_zygote.fork(job)
    result = worker.finish()
    screen, confirm = unpacked(result, "screen"), unpacked(result, "confirm")
    assert (len(screen["total"]), len(confirm["total"])) == (data.meta.n_val_screen, data.meta.n_val_confirm)
    assert set(confirm["total"]) == {4}
    assert result["score"] == pytest.approx((confirm["correct"] / confirm["total"]).mean(), abs=1e-15)
    assert result["acc_pooled"] == confirm["correct"].sum() / confirm["total"].sum()
    assert result["loss"] == pytest.approx(confirm["loss"].sum() / confirm["total"].sum(), rel=1e-14)
    assert result["screen_score"] == pytest.approx((screen["correct"] / screen["total"]).mean(), abs=1e-15)
    assert result["screen_loss"] == pytest.approx(screen["loss"].sum() / screen["total"].sum(), rel=1e-14)
    assert (result["steps"], result["tokens"]) == (6, 6 * 16 * 16)
    assert len(result["first_losses"]) == 6
    assert result["first_losses"][0] == pytest.approx(math.log(data.meta.vocab_size), rel=0.1)
    assert result["early_weights_sha256"] == result["weights_sha256"]
    curve = [(m["step"], m["half"]) for m in worker.messages if m["type"] == "evaluation"]
    assert curve == [(2, "screen"), (4, "screen"), (6, "screen"), (6, "confirm")]
    phases = [message["phase"] for message in worker.messages if message["type"] == "phase"]
    assert phases == ["load", "train", *["evaluate", "train"] * 2, "evaluate", "finish"]


def test_all_is_both_halves(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """Scored on `all`, the examples are those of the screen half and then those of the confirm half."""
    apart = shared_zygote.fork(make_job(halves=["screen", "confirm"])).finish()
    together = shared_zygote.fork(make_job(halves=["all"])).finish()
    for name, array in unpacked(together, "all").items():
        parts = [unpacked(apart, half)[name] for half in ("screen", "confirm")]
        assert array == pytest.approx(np.concatenate(parts), rel=1e-5)
    assert together["screen_score"] is None


def test_what_is_random_comes_from_the_streams(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """Another init stream changes the first loss, another order stream does too."""
    first = [
        shared_zygote.fork(make_job(steps=1, streams=streams)).finish()["first_losses"][0]
        for streams in ({"init": 1, "order": 2}, {"init": 3, "order": 2}, {"init": 1, "order": 4})
    ]
    assert len(set(first)) == 3


def test_accumulation_is_the_same_step(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """A batch of 16 in micro-batches of 4 gives the losses of one of 16, but for rounding."""
    whole, parts = (
        shared_zygote.fork(make_job(micro_batch=micro_batch, steps=12)).finish() for micro_batch in (16, 4)
    )
    assert parts["first_losses"] == pytest.approx(whole["first_losses"], rel=1e-4)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    assert parts["tokens"] == whole["tokens"]


def stop_in_the_middle(worker: Worker, signal_number: int, after_step: int) -> None:
    """Send a signal once the worker has made some steps."""
    worker.wait_for(lambda message: message["type"] == "progress" and message["step"] >= after_step)
    os.kill(worker.pid, signal_number)


@pytest.mark.parametrize("gate", [{}, INPUT], ids=["scalar", "input"])
def test_sigterm_saves_and_the_next_run_goes_on(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path, gate: dict[str, Any]
) -> None:
    """Interrupted by SIGTERM and run again: the numbers, curve included, are those of a straight run."""
    form = {**make_job()["form"], **gate}
    fields: dict[str, Any] = {"form": form, "steps": 300, "evaluate": {"every": 40}}
    straight = shared_zygote.fork(make_job(**fields))
    expected = straight.finish()
    fields["checkpoint"] = {"path": str(tmp_path / "checkpoint"), "every_s": 1000.0}
    first = shared_zygote.fork(make_job(**fields))
    stop_in_the_middle(first, signal.SIGTERM, after_step=1)
    interrupted = first.finish()
    assert (interrupted["outcome"], interrupted["score"], interrupted["metrics"]) == ("interrupted", None, {})
    assert 1 <= interrupted["steps"] < 300
    assert 0 < expected["metrics"]["whole_answer"] < 1
    second = shared_zygote.fork(make_job(**fields, **{"try": 2}))
    resumed = second.finish()
    assert resumed["resumed_from_step"] == interrupted["steps"]
    assert numbers(resumed) == numbers(expected)

    def curve(worker: Worker) -> list[dict[str, Any]]:
        return [message for message in worker.messages if message["type"] == "evaluation"]

    assert curve(second) == curve(straight)


@pytest.mark.parametrize("damage", ["none", "newest", "both", "newest cut", "both cut", "another attempt"])
def test_a_killed_run_goes_on_from_what_is_whole(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path, damage: str
) -> None:
    """After kill -9: on from the newest whole checkpoint, the one before, or step 0; always equal numbers."""
    path = tmp_path / "checkpoint"
    fields: dict[str, Any] = {"steps": 80, "checkpoint": {"path": str(path), "every_s": 0.0}}
    expected = shared_zygote.fork(make_job(steps=80)).finish()
    first = shared_zygote.fork(make_job(**fields))
    first.wait_for(lambda message: message["type"] == "progress" and message["step"] >= 3)
    kill(first.pid)
    shared_zygote.exited(first)
    both = [path, checkpoint.previous(path)]
    for file in {"newest": both[:1], "both": both}.get(damage.removesuffix(" cut"), []):
        content = bytearray(file.read_bytes())
        if damage.endswith("cut"):
            del content[9 * len(content) // 10 :]
        else:
            content[len(content) // 2] ^= 1
        file.write_bytes(content)
    if damage == "another attempt":
        fields["streams"] = {"init": 1, "order": 9}
        expected = shared_zygote.fork(make_job(steps=80, streams=fields["streams"])).finish()
    resumed = shared_zygote.fork(make_job(**fields)).finish()
    assert numbers(resumed) == numbers(expected)
    assert (resumed["resumed_from_step"] > 0) == (damage in ("none", "newest", "newest cut"))


def test_an_input_gate_starts_as_a_scalar_gate_and_learns(
    make_job: MakeJob, shared_zygote: ZygoteProcess
) -> None:
    """Before a step it is the scalar gate; with a vanishing learning rate it stays so, with another not."""
    scalar = {**make_job()["form"], "alpha_lr": 0.0}
    forms = [scalar, *({**scalar, "gate": "input", "weight_lr": lr, "bias_lr": lr} for lr in (1e-30, 0.01))]
    fixed, still, learning = (
        numbers(shared_zygote.fork(make_job(form=form, steps=30)).finish()) for form in forms
    )
    assert still == fixed
    assert learning["first_losses"][0] == fixed["first_losses"][0]
    assert learning["weights_sha256"] != fixed["weights_sha256"]


@pytest.mark.parametrize(
    "gate",
    [{"alpha_lr": 0.0}, {"alpha_lr": 0.01}, INPUT, {**DRAFTS, "alpha_lr": 0.01}],
    ids=["fixed", "trained", "input", "drafts"],
)
def test_a_variant_that_does_nothing_is_a_noop(
    make_job: MakeJob, shared_zygote: ZygoteProcess, gate: dict[str, Any]
) -> None:
    """With a gate of exactly 0, trained or not, the first 20 losses and the weights are the baseline's."""
    baseline = shared_zygote.fork(make_job(form=BASELINE, steps=25)).finish()
    reference = reference_of(baseline)
    assert len(reference["first_losses"]) == 20
    assert baseline["early_weights_sha256"] != baseline["weights_sha256"]
    closed = {**make_job()["form"], **gate, "alpha": -1000.0}
    result = shared_zygote.fork(make_job(form=closed, steps=25, noop_reference=reference)).finish()
    assert (result["outcome"], result["steps"], result["score"]) == ("noop", 20, None)
    assert result["examples"] == {}


@pytest.mark.parametrize(
    "gate",
    [{**DRAFTS, "norm": True, "clip": 1.0, "detach": True}, {"alpha": -10.0, "alpha_lr": 0.0}],
    ids=["drafts", "alpha -10"],
)
def test_a_weak_gate_is_no_noop(
    make_job: MakeJob, shared_zygote: ZygoteProcess, gate: dict[str, Any]
) -> None:
    """A gate of 0.00225, as the drafts' head gate, or of 0.00005 changes some bit in 20 steps: trained on."""
    reference = reference_of(shared_zygote.fork(make_job(form=BASELINE, steps=25)).finish())
    form = {**make_job()["form"], **gate}
    result = shared_zygote.fork(make_job(form=form, steps=25, noop_reference=reference)).finish()
    assert (result["outcome"], result["steps"]) == ("completed", 25)


def reference_of(baseline: dict[str, Any]) -> dict[str, Any]:
    return {
        "first_losses": baseline["first_losses"],
        "weights_sha256": baseline["early_weights_sha256"],
    }


def test_a_variant_that_does_something_is_none(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """A working variant is not taken for a no-op, nor is one whose weights or one loss alone differ."""
    baseline = shared_zygote.fork(make_job(form=BASELINE)).finish()
    losses, weights = baseline["first_losses"], baseline["early_weights_sha256"]
    reference = {"first_losses": losses, "weights_sha256": weights}
    assert shared_zygote.fork(make_job(noop_reference=reference)).finish()["outcome"] == "completed"
    for wrong in (
        {"first_losses": [*losses[:-1], np.nextafter(losses[-1], 9.0)], "weights_sha256": weights},
        {"first_losses": losses, "weights_sha256": "0" * 64},
    ):
        job = make_job(form=BASELINE, noop_reference=wrong)
        assert shared_zygote.fork(job).finish()["outcome"] == "completed"
    same = make_job(form=BASELINE, noop_reference=reference)
    assert shared_zygote.fork(same).finish()["outcome"] == "noop"


def test_an_absurd_learning_rate_diverges(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """A loss that is no number ends the attempt: diverged, with the step in the reason and no score."""
    job = make_job(steps=50, recipe={"lr": 1e30, "grad_clip": None, "warmup": 0.0})
    result = shared_zygote.fork(job).finish()
    assert (result["outcome"], result["score"], result["loss"]) == ("diverged", None, None)
    assert result["steps"] < 50
    assert str(result["steps"]) in result["reason"] or str(result["steps"] + 1) in result["reason"]


def test_a_probe_trains_and_gives_no_score(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """A probe makes its real step and an evaluation batch, and gives no score of its few examples."""
    worker = shared_zygote.fork(make_job(role="probe", steps=1))
    result = worker.finish()
    assert (result["outcome"], result["steps"], result["score"]) == ("completed", 1, None)
    assert 1 < result["peak_memory_mib"] < 200
    assert result["tokens"] == 16 * 16
    assert (result["examples"], result["metrics"]) == ({}, {})


def test_a_trained_gate_does_not_change_clipping(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """The gate has no part in the norm that the gradient of the model is clipped by: a gate trained with
    a vanishing learning rate leaves the weights that a fixed gate leaves."""
    form = {**make_job()["form"], "alpha": 0.0}
    recipe = {"grad_clip": 0.01, "lr": 2e-2}
    fixed, trained = (
        shared_zygote.fork(make_job(form={**form, "alpha_lr": lr}, recipe=recipe, steps=60)).finish()
        for lr in (0.0, 1e-30)
    )
    assert trained["weights_sha256"] == fixed["weights_sha256"]


def test_a_head_gate_that_learns_nothing_is_the_scalar_gate(
    make_job: MakeJob, shared_zygote: ZygoteProcess
) -> None:
    """To the digit, trained beside it: so plans count them as one variant."""
    fixed = {**SEED_FORM, "alpha_lr": 0.0, "norm": True, "clip": 1.0}
    scalar, head, learns = (
        shared_zygote.fork(make_job(form={**fixed, "gate": gate, "alpha_lr": rate})).finish()
        for gate, rate in (("scalar", 0.0), ("head", 0.0), ("head", 0.01))
    )
    assert numbers(scalar) == numbers(head) != numbers(learns)
