"""A limit on memory: running out of it is said with its sizes, harms nobody, and changes no number."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.daemon.outcomes import Ending, outcome_of
from fsearch.train.memory import GpuMemory, Memory, is_refused_allocation
from tests.train.conftest import MakeJob
from tests.train.processes import Worker, ZygoteProcess, numbers

WIDE = {"init": {"n_layer": 4, "n_embd": 256, "head_size": 32}}
"""About 4 million parameters: 16 MiB, and as much again for their gradients, and twice for AdamW."""


def ended(zygote: ZygoteProcess, worker: Worker) -> dict[str, Any]:
    """The last message of a worker that may have failed."""
    assert zygote.exited(worker)["status"] in (0, 256), worker.told()
    while not worker.reader.closed:
        worker.read()
    return worker.messages[-1]


@pytest.mark.parametrize(("model", "phase"), [(None, "train"), (WIDE, "load")])
def test_running_out_of_memory_is_an_outcome(
    make_job: MakeJob, shared_zygote: ZygoteProcess, model: dict[str, Any] | None, phase: str
) -> None:
    """The worker says what it took and what more was asked for; the next worker is as good as ever."""
    fields: dict[str, Any] = {"model": model} if model else {}
    before = shared_zygote.fork(make_job()).finish()
    worker = shared_zygote.fork(make_job(batch=256, micro_batch=256, memory_mib=9, **fields))
    error = ended(shared_zygote, worker)
    assert (error["type"], error["phase"]) == ("error", phase)
    outcome = outcome_of(Ending(error=error, exit_code=1, phase=phase))
    assert (outcome.word, outcome.outcome_class) == ("oom", "configuration")
    assert outcome.reason.startswith("out of memory with 256 examples of up to 16 tokens: ")
    sizes = r"\d+ MiB of 9 MiB that it may take were taken( when \d+\.\d MiB more were asked for)?"
    assert re.fullmatch(sizes, outcome.reason.partition("tokens: ")[2])
    assert numbers(shared_zygote.fork(make_job()).finish()) == numbers(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_limit_is_kept_and_changes_no_number(
    make_job: MakeJob, shared_zygote: ZygoteProcess, threads: int
) -> None:
    """What was measured is what a limit must allow, to 2 MiB; threads that wait take none of it."""
    job = make_job(micro_batch=64, batch=64, threads=threads, memory_mib=1000)
    free = shared_zygote.fork(make_job(micro_batch=64, batch=64, threads=threads)).finish()
    wide = shared_zygote.fork({**job, "memory_mib": 40}).finish()
    assert numbers(wide) == numbers(free)
    peak = wide["peak_memory_mib"]
    tight = shared_zygote.fork({**job, "memory_mib": int(peak) + 3}).finish()
    assert numbers(tight) == numbers(free)
    short = ended(shared_zygote, shared_zygote.fork({**job, "memory_mib": max(1, int(peak * 0.7))}))
    assert short["type"] == "error" and short["exception"].endswith(".OutOfMemory")


def test_a_probe_sees_what_a_training_takes(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """Two steps show the optimizer's memory and accumulation shows the gradients': a probe in two
    micro-batches takes what 12 steps in eight of them take, to 7 %, and more than one step in one."""
    fields: dict[str, Any] = {"model": WIDE, "micro_batch": 4, "batch": 32, "memory_mib": 130}
    probe = shared_zygote.fork(make_job(role="probe", steps=2, halves=["all"], **fields)).finish()
    assert probe["tokens"] == 2 * 2 * 4 * 16
    training = shared_zygote.fork(make_job(steps=12, halves=["all"], **fields)).finish()
    assert probe["peak_memory_mib"] == pytest.approx(training["peak_memory_mib"], rel=0.07)
    one = shared_zygote.fork(
        make_job(role="probe", steps=1, halves=["all"], **{**fields, "batch": 4})
    ).finish()
    assert one["peak_memory_mib"] < probe["peak_memory_mib"] - 4


def test_a_checkpoint_takes_no_memory(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """Saving after every step and going on from it happen within what the training itself takes."""
    fields: dict[str, Any] = {"model": WIDE, "micro_batch": 4, "batch": 4, "steps": 4}
    plain = shared_zygote.fork(make_job(**fields, memory_mib=1000)).finish()
    fields["memory_mib"] = int(plain["peak_memory_mib"]) + 6
    fields["checkpoint"] = {"path": str(tmp_path / "checkpoint"), "every_s": 0.0}
    saving = shared_zygote.fork(make_job(**fields)).finish()
    resumed = shared_zygote.fork(make_job(**fields)).finish()
    assert (saving["resumed_from_step"], resumed["resumed_from_step"]) == (0, 4)
    assert numbers(resumed) == numbers(saving)
    assert saving["weights_sha256"] == plain["weights_sha256"]


def test_accumulation_gives_the_curve_of_the_whole_batch(
    make_job: MakeJob, shared_zygote: ZygoteProcess
) -> None:
    """In micro-batches of 16, 8, 4 and 1: the losses of 12 steps and of the curve, to float32 rounding and
    what follows from it; the first loss to 1e-6."""
    workers = [
        shared_zygote.fork(make_job(micro_batch=size, steps=12, evaluate={"every": 3}))
        for size in (16, 8, 4, 1)
    ]
    results = [worker.finish() for worker in workers]
    losses = np.array([result["first_losses"] for result in results])
    curves = np.array(
        [[m["loss"] for m in worker.messages if m["type"] == "evaluation"] for worker in workers]
    )
    assert losses.shape == (4, 12) and curves.shape == (4, 4)
    assert losses[1:, 0] == pytest.approx(losses[0, 0], rel=1e-6)
    for other in (1, 2, 3):
        assert losses[other] == pytest.approx(losses[0], rel=2e-5)
        assert curves[other] == pytest.approx(curves[0], rel=2e-5)


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB",
            "2.00 GiB",
        ),
        (
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23 GiB",
            "20.00 MiB",
        ),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", ""),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", ""),
    ],
)
def test_a_gpu_that_refuses_is_out_of_memory(message: str, asked: str) -> None:
    """What CUDA, cuBLAS and torch's allocator say is taken for what it is, with the size asked for."""
    assert is_refused_allocation(RuntimeError(message))
    more = f" when {asked} more were asked for" if asked else ""
    assert GpuMemory().told(RuntimeError(message)) == f"0 MiB were taken{more}"
    assert not is_refused_allocation(RuntimeError("CUDA error: device-side assert triggered"))


def test_a_message_without_memory_for_it_is_out_of_memory() -> None:
    """What is left of torch's "[enforce fail at alloc_cpu.cpp..." where nothing at all is to be had."""
    assert is_refused_allocation(RuntimeError("[enforce fail a"))
    assert not is_refused_allocation(RuntimeError("[enforce fail at other.cpp:1] x > 0."))


def test_what_is_started_meanwhile_does_not_inherit_the_limit() -> None:
    """As programs that are run; afterwards the limit is what it was, also after an error."""
    read = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0])"
    before = resource.getrlimit(resource.RLIMIT_DATA)
    memory = Memory()
    memory.limit(500)
    limited = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        with pytest.raises(KeyError), memory.lifted():
            seen = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
            raise KeyError
        assert int(seen.stdout) == before[1]
        assert resource.getrlimit(resource.RLIMIT_DATA) == limited != before
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
