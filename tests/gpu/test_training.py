"""Attempts on a GPU: equal numbers run to run and after any interruption, near the CPU's, within a limit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fsearch.daemon.outcomes import Ending, outcome_of
from fsearch.train.batches import Examples
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Recipe
from tests.train.conftest import MakeJob
from tests.train.processes import Worker, ZygoteProcess, kill, numbers, run_cold
from tests.train.variable_split import VOCAB_SIZE, variable_split

WIDE = {"init": {"n_layer": 4, "n_embd": 512, "head_size": 64}}
"""About 15 million parameters: 240 MiB with gradients and what AdamW remembers."""

MakeGpuJob = Callable[..., dict[str, Any]]


@pytest.fixture
def job(make_job: MakeJob) -> MakeGpuJob:
    """A tiny attempt on the GPU with our kernels; fields as asked."""

    def make(**fields: Any) -> dict[str, Any]:
        return make_job(**{"device": "cuda", "backend": "cuda1", **fields})

    return make


def test_the_zygote_leaves_cuda_alone(gpu_zygote: ZygoteProcess) -> None:
    """It has loaded our CUDA kernels and made no context: a fork of one that has could not use the GPU."""
    assert gpu_zygote.ready["backend"] == "cuda1"
    pid = gpu_zygote.ready["pid"]
    opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert not {path for path in opened if path.startswith("/dev/nvidia-uvm")}
    assert "nvidia-uvm" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backend", ["cuda1", "torch-chunked"])
def test_equal_run_to_run(
    job: MakeGpuJob,
    gpu_zygote: ZygoteProcess,
    kernel_arguments: list[str],
    tmp_path: Path,
    backend: str,
    precision: str,
) -> None:
    """Warm twice and cold: every number and every weight, to the digit, in both implementations."""
    asked = job(backend=backend, recipe={"precision": precision}, steps=60, micro_batch=8)
    asked["evaluate"] = {"every": 20}
    asked["halves"] = ["screen", "confirm"]
    first, second = (gpu_zygote.fork(asked).finish() for _ in range(2))
    cold = run_cold("attempt", asked, tmp_path, *kernel_arguments)
    assert first["outcome"] == "completed" and first["backend"] == backend
    assert numbers(first) == numbers(second) == numbers(cold)
    assert first["late_torch_imports"] == []


@pytest.mark.parametrize("gate", ["scalar", "head", "input"])
def test_it_trains_what_the_cpu_trains(
    job: MakeGpuJob, make_job: MakeJob, gpu_zygote: ZygoteProcess, gate: str
) -> None:
    """The same first weights and examples: the first losses are the CPU's, but for rounding."""
    form = {**make_job()["form"], "gate": gate}
    if gate == "input":
        form |= {"weight_lr": 0.01, "bias_lr": 0.02}
    here = gpu_zygote.fork(job(form=form, steps=20)).finish()
    there = gpu_zygote.fork(make_job(form=form, steps=20)).finish()
    assert here["first_losses"][0] == pytest.approx(there["first_losses"][0], rel=1e-5)
    assert here["first_losses"] == pytest.approx(there["first_losses"], rel=1e-2)
    assert here["tokens"] == there["tokens"]


def stop(worker: Worker, signal_number: int, after_step: int) -> None:
    worker.wait_for(lambda message: message["type"] == "progress" and message["step"] >= after_step)
    os.kill(worker.pid, signal_number)


def test_sigterm_and_on(job: MakeGpuJob, gpu_zygote: ZygoteProcess, tmp_path: Path) -> None:
    """Stopped by SIGTERM and run again: the numbers of a straight run, to the digit."""
    fields: dict[str, Any] = {"steps": 400, "evaluate": {"every": 50}}
    expected = gpu_zygote.fork(job(**fields)).finish()
    fields["checkpoint"] = {"path": str(tmp_path / "checkpoint"), "every_s": 1000.0}
    first = gpu_zygote.fork(job(**fields))
    stop(first, signal.SIGTERM, after_step=1)
    interrupted = first.finish()
    assert interrupted["outcome"] == "interrupted" and 1 <= interrupted["steps"] < 400
    resumed = gpu_zygote.fork(job(**fields, **{"try": 2})).finish()
    assert resumed["resumed_from_step"] == interrupted["steps"]
    assert numbers(resumed) == numbers(expected)


def test_kill_and_on(job: MakeGpuJob, gpu_zygote: ZygoteProcess, tmp_path: Path) -> None:
    """After kill -9: on from the newest whole checkpoint, with equal numbers, on a GPU as good as before."""
    expected = gpu_zygote.fork(job(steps=200)).finish()
    fields = {"steps": 200, "checkpoint": {"path": str(tmp_path / "checkpoint"), "every_s": 0.0}}
    first = gpu_zygote.fork(job(**fields))
    first.wait_for(lambda message: message["type"] == "progress" and message["step"] >= 3)
    kill(first.pid)
    gpu_zygote.exited(first)
    resumed = gpu_zygote.fork(job(**fields)).finish()
    assert resumed["resumed_from_step"] > 0
    assert numbers(resumed) == numbers(expected)


def test_a_gate_of_zero_is_a_noop(job: MakeGpuJob, gpu_zygote: ZygoteProcess) -> None:
    """The baseline's first 20 losses and weights, to the bit; and a weak gate is none."""
    baseline = gpu_zygote.fork(job(form={"gate": "none", "stream": 0}, steps=25)).finish()
    reference = {
        "first_losses": baseline["first_losses"],
        "weights_sha256": baseline["early_weights_sha256"],
    }
    form = job()["form"]
    closed = gpu_zygote.fork(
        job(form={**form, "alpha": -1000.0}, steps=25, noop_reference=reference)
    ).finish()
    assert (closed["outcome"], closed["steps"]) == ("noop", 20)
    weak = gpu_zygote.fork(job(form={**form, "alpha": -6.0}, steps=25, noop_reference=reference)).finish()
    assert weak["outcome"] == "completed"


def test_a_limit_on_memory(job: MakeGpuJob, gpu_zygote: ZygoteProcess) -> None:
    """What was measured is about what a limit must allow; it changes no number. Less is an outcome with its
    sizes, and the next worker is as good as ever."""
    fields: dict[str, Any] = {"model": WIDE, "batch": 128, "micro_batch": 128, "steps": 4}
    free = gpu_zygote.fork(job(**fields)).finish()
    peak_mib = free["peak_memory_mib"]
    assert 240 < peak_mib < 20_000
    tight = gpu_zygote.fork(job(**fields, memory_mib=int(peak_mib) + 64)).finish()
    assert numbers(tight) == numbers(free)
    assert tight["peak_memory_mib"] <= peak_mib + 64
    limit_mib = int(peak_mib * 0.7)
    short = gpu_zygote.fork(job(**fields, memory_mib=limit_mib))
    gpu_zygote.exited(short)
    while not short.reader.closed:
        short.read()
    error = short.messages[-1]
    assert error["type"] == "error", short.told()
    outcome = outcome_of(Ending(error=error, exit_code=1, phase="train"))
    assert (outcome.word, outcome.outcome_class) == ("oom", "configuration")
    assert outcome.reason.startswith("out of memory with 128 examples of up to 16 tokens: ")
    assert f" of {limit_mib} MiB that it may take were taken when " in outcome.reason
    assert outcome_of(Ending(error=error, exit_code=1, others_mib=5000.0)).word == "gpu_contended"
    assert numbers(gpu_zygote.fork(job(**fields)).finish()) == numbers(free)


def test_a_probe_sees_what_a_training_takes(job: MakeGpuJob, gpu_zygote: ZygoteProcess) -> None:
    """Two steps in two micro-batches take what 12 steps in eight of them take, to 7 % or two pages."""
    fields: dict[str, Any] = {"model": WIDE, "micro_batch": 16, "batch": 128, "halves": ["all"]}
    probe = gpu_zygote.fork(job(role="probe", steps=2, **fields)).finish()
    training = gpu_zygote.fork(job(steps=12, **fields)).finish()
    assert probe["peak_memory_mib"] == pytest.approx(training["peak_memory_mib"], rel=0.07, abs=40)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_in_a_step_waits_for_the_gpu(make_job: MakeJob, gpu: torch.device, precision: str) -> None:
    """From the first copy of a batch to the update, over two micro-batches, no call of torch's waits."""
    job = make_job(recipe={"precision": precision})
    network = Network.from_job(job, VOCAB_SIZE).to(str(gpu))
    optimization = Optimization(network, Recipe.from_job(job["recipe"]), steps=4)
    examples = Examples([variable_split()], only_scored=False)
    batches = [examples.batch(np.arange(at, at + 8)) for at in (0, 8)]
    for step in range(2):  # the first one allocates
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            optimization.zero_grad()
            loss = torch.stack([network.learn(batch, 100) for batch in batches]).sum()
            optimization.update(step, loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
