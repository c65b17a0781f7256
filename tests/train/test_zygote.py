"""The zygote: workers as good as cold processes, every death reported, nothing outlives its parent."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from fsearch.system import process
from tests.alive import runs, wait_until_gone
from tests.train.conftest import MakeJob
from tests.train.processes import Worker, ZygoteProcess, kill, numbers, run_cold, zygote


def test_a_forked_attempt_equals_a_cold_one(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """A result from the zygote equals that of a cold process to the bit, and no torch module came late."""
    job = make_job(steps=8, evaluate={"every": 3}, halves=["screen", "confirm"])
    cold = run_cold("attempt", job, tmp_path)
    forked = shared_zygote.fork(job).finish()
    assert numbers(forked) == numbers(cold)
    assert forked["outcome"] == "completed"
    assert forked["late_torch_imports"] == []


def settled(pid: int) -> bool:
    """Whether a process sleeps: it waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


def wait_until_ready(worker: Worker) -> None:
    """A worker that was forked ahead says nothing; it is ready when it has long been asleep."""
    asleep = 0
    while asleep < 50:
        asleep = asleep + 1 if settled(worker.pid) else 0
        time.sleep(0.01)


@pytest.mark.parametrize("memory_mib", [None, 400])
def test_a_worker_that_was_made_ready_equals_a_cold_process(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path, memory_mib: int | None
) -> None:
    """It says nothing and trains nothing before it is told to; then the numbers are those of a cold process,
    what it is told last counts, and the time before is no part of its own."""
    job = make_job(steps=24, evaluate={"every": 9}, halves=["screen", "confirm"], memory_mib=memory_mib)
    cold = run_cold("attempt", job, tmp_path)
    worker = shared_zygote.fork({**job, "ahead": True})
    wait_until_ready(worker)
    worker.read()
    assert worker.messages == []
    worker.begin(job)
    ready = worker.finish()
    assert numbers(ready) == numbers(cold) and ready["late_torch_imports"] == []
    assert 0 < ready["seconds"]["load"] < cold["seconds"]["load"]
    assert ready["peak_memory_mib"] == pytest.approx(cold["peak_memory_mib"], rel=0.3)
    again = shared_zygote.fork({**job, "ahead": True})
    reference = {"first_losses": cold["first_losses"], "weights_sha256": cold["early_weights_sha256"]}
    again.begin({**job, "noop_reference": reference})
    assert again.finish()["outcome"] == "noop"


def test_one_that_was_made_ready_goes_on_from_a_checkpoint(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """A checkpoint that is there when it begins is taken up."""
    job = make_job(steps=40, checkpoint={"path": str(tmp_path / "kept.pt"), "every_s": 0})
    whole = shared_zygote.fork({**job, "checkpoint": None}).finish()
    ahead = shared_zygote.fork({**job, "ahead": True})
    wait_until_ready(ahead)
    first = shared_zygote.fork(job)
    first.wait_for(lambda message: message["type"] == "progress")
    kill(first.pid)
    shared_zygote.exited(first)
    ahead.begin(job)
    rest = ahead.finish()
    assert rest["resumed_from_step"] > 0 and numbers(rest) == numbers(whole)


def test_nobody_wants_the_worker_that_was_made_ready(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """It ends by itself when its pipe is closed, and with the zygote."""
    worker = shared_zygote.fork({**make_job(), "ahead": True})
    os.close(worker.reader.fd)
    shared_zygote.exited(worker)
    with zygote(tmp_path) as started:
        worker = started.fork({**make_job(), "ahead": True})
        started.process.kill()
        started.process.wait()
        assert wait_until_gone([worker.pid]) == []


def test_the_same_with_the_compiled_kernel(make_job: MakeJob, kernel_library: Path, tmp_path: Path) -> None:
    """With the kernel loaded before the fork: equal to cold to the bit, nothing imported late."""
    cache = ("--kernel-cache", str(kernel_library.parent))
    with zygote(tmp_path, *cache) as started:
        backend = started.ready["backend"]
        assert backend.startswith("cpu-")
        job = make_job(backend=backend)
        forked = started.fork(job).finish()
        again = started.fork(job).finish()
        fallback = started.fork(make_job(backend="torch-chunked")).finish()
    cold = run_cold("attempt", job, tmp_path, *cache)
    assert numbers(forked) == numbers(again) == numbers(cold)
    assert (forked["backend"], forked["late_torch_imports"]) == (backend, [])
    assert fallback["backend"] == "torch-chunked"
    assert forked["first_losses"] == pytest.approx(fallback["first_losses"], rel=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there may be a kernel for this GPU")
def test_a_kernel_for_the_cpu_is_none_for_a_gpu(kernel_library: Path, tmp_path: Path) -> None:
    """Asked to train on a GPU, the zygote takes no library that was built for the CPU alone."""
    with zygote(tmp_path, "--kernel-cache", str(kernel_library.parent), "--cuda", "sm_86") as started:
        assert started.ready["backend"] is None


def test_a_damaged_kernel_is_taken_out_of_the_way(kernel_library: Path, tmp_path: Path) -> None:
    """A library that cannot be loaded does not stop the zygote; it is gone, so that it is built again."""
    damaged = tmp_path / "cache" / kernel_library.name
    damaged.parent.mkdir()
    damaged.write_bytes(b"no library at all")
    with zygote(tmp_path, "--kernel-cache", str(damaged.parent)) as started:
        assert started.ready["backend"] is None
    assert not damaged.exists()


def test_a_missing_kernel_is_an_error(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """An attempt that asks for a compiled backend never runs on the fallback instead."""
    error = shared_zygote.fork(make_job(backend="cpu-avx2")).wait_for(lambda m: m["type"] == "error")
    assert error["exception"] == "RuntimeError"
    assert "cpu-avx2" in error["message"] and "torch-chunked" in error["message"]


def test_attempts_do_not_touch_each_other(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """Two attempts run side by side from one zygote give each the numbers it gives alone."""
    jobs = [make_job(), make_job(form={"gate": "none", "stream": 0}, streams={"init": 5, "order": 6})]
    alone = [numbers(shared_zygote.fork(job).finish()) for job in jobs]
    workers = [shared_zygote.fork(job) for job in jobs]
    together = [numbers(worker.finish()) for worker in workers]
    assert together == alone
    assert alone[0]["weights_sha256"] != alone[1]["weights_sha256"]


def test_the_end_of_a_worker_is_reported(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """A worker that ends by itself is reaped: status 0, with the memory and the time it used."""
    worker = shared_zygote.fork(make_job())
    assert worker.pid == shared_zygote.wait_for(lambda m: m.get("forked") == worker.pid)["forked"]
    result = worker.finish()
    exited = shared_zygote.exited(worker)
    assert exited["status"] == 0
    assert (
        exited["rusage"]["maxrss_mib"] > max(50, result["peak_memory_mib"]) and result["peak_memory_mib"] > 1
    )
    assert exited["rusage"]["user_s"] > 0
    assert not runs(worker.pid)


def test_an_exception_is_a_message_and_a_traceback(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """What is raised is reported with its qualified name, its text and the phase; the log has the rest."""
    job = make_job()
    job["data"]["sha256"] = "0" * 64
    worker = shared_zygote.fork(job)
    error = worker.wait_for(lambda message: message["type"] == "error")
    assert (error["exception"], error["phase"]) == ("ValueError", "load")
    assert "0" * 64 in error["message"]
    assert os.waitstatus_to_exitcode(shared_zygote.exited(worker)["status"]) == 1
    assert "Traceback" in worker.log.read_text()


def test_a_killed_worker_is_reported_with_its_signal(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """kill -9 of a worker: signal 9 is reported, the pipe ends without a result, the next attempt runs."""
    worker = shared_zygote.fork(make_job(steps=100_000))
    worker.wait_for(lambda message: message["type"] == "progress")
    kill(worker.pid)
    assert os.waitstatus_to_exitcode(shared_zygote.exited(worker)["status"]) == -signal.SIGKILL
    while not worker.reader.closed:
        worker.read()
    assert all(message["type"] != "result" for message in worker.messages)
    assert shared_zygote.fork(make_job()).finish()["outcome"] == "completed"


def test_killing_the_zygote_takes_its_workers(make_job: MakeJob, tmp_path: Path) -> None:
    """kill -9 of the zygote: within two seconds its worker is gone too."""
    with zygote(tmp_path) as started:
        worker = started.fork(make_job(steps=100_000))
        worker.wait_for(lambda message: message["type"] == "progress")
        started.process.kill()
        started.process.wait()
        assert wait_until_gone([worker.pid]) == []


def test_the_zygote_ends_with_its_socket(make_job: MakeJob, tmp_path: Path) -> None:
    """When the socket is closed the zygote exits with status 0, and a worker in mid-run dies with it."""
    with zygote(tmp_path) as started:
        worker = started.fork(make_job(steps=100_000))
        worker.wait_for(lambda message: message["type"] == "progress")
        assert started.close() == 0
        assert wait_until_gone([worker.pid]) == []


def test_a_worker_is_a_session_of_its_own(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """A worker leads its own session and holds nothing of the zygote's but its log and its message pipe."""
    worker = shared_zygote.fork(make_job(steps=100_000))
    worker.wait_for(lambda message: message["type"] == "progress")
    assert os.getsid(worker.pid) == worker.pid
    forked = shared_zygote.wait_for(lambda m: m.get("forked") == worker.pid)
    assert forked["started"] == process.start_time(worker.pid)
    held = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
    kinds = [name.split(":")[0] for name in held]
    assert held.count(str(worker.log)) == 2
    assert (kinds.count("pipe"), kinds.count("socket"), kinds.count("anon_inode")) == (1, 0, 0)
    assert str(shared_zygote.log) not in held
    kill(worker.pid)
    shared_zygote.exited(worker)


def test_the_zygote_has_one_thread(shared_zygote: ZygoteProcess) -> None:
    """Importing all that an attempt imports has started no thread that a fork would lose."""
    assert len(os.listdir(f"/proc/{shared_zygote.process.pid}/task")) == 1
    assert shared_zygote.ready == {"ready": True, "pid": shared_zygote.process.pid, "backend": None}
