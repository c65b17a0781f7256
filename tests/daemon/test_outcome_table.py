"""The outcome table: every way in which an attempt can end has one word, one class and a sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fsearch.daemon.child import spawn
from fsearch.daemon.outcomes import Ending, outcome_of
from fsearch.rwkv7 import CheckpointError, HubError, HubUnreachable
from fsearch.search.outcomes import CLASSES
from fsearch.train.job import run_reporting
from fsearch.train.model_file import ModelChanged
from tests.alive import wait_until_gone

RESULT = {"type": "result", "outcome": "completed", "reason": "40 steps"}


def error_of(exception: Exception) -> dict[str, Any]:
    """The message in which a job process reports this exception."""
    read, write = os.pipe()

    def run(*_: object) -> None:
        raise exception

    from fsearch.system.messages import Reader

    assert run_reporting(run, {}, write) == 1
    (message,) = Reader(read).read_available()
    os.close(read)
    os.close(write)
    return message


def no_memory() -> Exception:
    """What torch really says when the machine has not enough memory."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    return caught.value


CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which "
    "1.2 GiB is free."
)
EXCEPTIONS = [
    (torch.OutOfMemoryError(CUDA), "oom"),
    (torch.cuda.OutOfMemoryError(CUDA), "oom"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
    (RuntimeError(CUDA), "oom"),
    (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 8000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        "oom",
    ),
    (no_memory(), "oom"),
    (MemoryError(), "oom"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/state/checkpoints/x.pt"), "disk_full"),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/state/checkpoints/x.pt"), "disk_full"),
    (CheckpointError(Path("/m.pth"), "blocks.2.att.w1 is missing"), "model_refused"),
    (HubError("hf://o/r/f: there is no repository o/r at the hub"), "model_refused"),
    (HubUnreachable("hf://o/r/f could not be fetched"), "network_wait"),
    (ModelChanged("/m.pth is not the file any more that was inspected"), "model_changed"),
    (RuntimeError("CUDA error: device-side assert triggered"), "crashed"),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), "crashed"),
    (ValueError("the prepared data have another checksum"), "crashed"),
    (KeyError("steps"), "crashed"),
]


@pytest.mark.parametrize(("exception", "word"), EXCEPTIONS, ids=lambda value: str(value)[:40])
def test_an_exception_has_a_word(exception: Exception, word: str) -> None:
    """Whatever a worker raises is named, and the sentence holds what was said."""
    outcome = outcome_of(Ending(error=error_of(exception), exit_code=1, phase="train"))
    assert outcome.word == word
    assert str(exception).strip() in outcome.reason
    assert outcome.pattern.startswith("exception ")


RECORDED = json.loads((Path(__file__).parent / "recorded_failures.json").read_text())
"""What torch and drivers of several versions really said, and where that was reported."""


@pytest.mark.parametrize(
    "one", RECORDED, ids=lambda one: str(one["source"]).removeprefix("https://github.com/")
)
def test_recorded_texts_have_their_words(one: dict[str, str]) -> None:
    """Failures that this machine cannot have, by the texts that others met; the sentence quotes them."""
    error = {"exception": one["exception"], "message": one["message"], "phase": "train", "chain": []}
    outcome = outcome_of(Ending(error=error, exit_code=1, phase="train"))
    assert (outcome.word, outcome.outcome_class) == (one["word"], CLASSES[one["word"]])
    assert one["message"] in outcome.reason


def test_the_build_of_a_kernel_quotes_its_compiler() -> None:
    """What ninja, nvcc and g++ say is read where the kernel is built; here only its own word counts."""
    reason = "nvcc does not take this compiler: unsupported GNU version! gcc versions later than 12"
    result = {"outcome": "kernel_build_failed", "reason": reason}
    assert outcome_of(Ending(result=result, exit_code=0, phase="build")).reason == reason


def test_running_out_beside_others_is_contention() -> None:
    """What does not fit while somebody else holds memory of the GPU closes nothing."""
    error = error_of(torch.OutOfMemoryError(CUDA))
    alone = outcome_of(Ending(error=error, exit_code=1, phase="train"))
    beside = outcome_of(Ending(error=error, exit_code=1, phase="train", others_mib=900.0))
    assert (alone.word, beside.word) == ("oom", "gpu_contended")
    assert "900 MiB" in beside.reason and CUDA in beside.reason and alone.pattern in beside.pattern


def test_a_sentence_does_nothing_to_a_terminal() -> None:
    """Colours, titles, bells and returns in what a library says are not passed on; its words are."""
    said = "\x1b[1;31mred\x1b[0m \x1b]0;title\x07bell\x07 back\x08 \x9b2J[/brackets]\nline\r\x00"
    outcome = outcome_of(Ending(error=error_of(ValueError(said)), exit_code=1, phase="train"))
    assert "red bell back 2J[/brackets]\nline;" in outcome.reason


def test_every_word_can_be_reached() -> None:
    """Of all the words none stands in the table of classes alone."""
    from fsearch.daemon import fetch_failures, outcomes

    lines = {word for _, _, word, _ in [*outcomes._EXCEPTIONS, *outcomes._REST]}
    lines |= {failure.outcome for failure in fetch_failures.TABLE}
    reported = {"completed", "noop", "diverged", "data_short", "kernel_build_failed"}  # by the process itself
    ended = {"interrupted", "hang", "host_oom"}
    assert lines | reported | ended | {"stopped_early"} == set(CLASSES)


def test_an_unknown_exception_is_named_with_its_phase() -> None:
    """What no line knows is `crashed`, with the exception, the phase and where to look."""
    outcome = outcome_of(Ending(error=error_of(ZeroDivisionError("by zero")), exit_code=1, phase="evaluate"))
    assert outcome.word == "crashed" and outcome.outcome_class == "unknown"
    assert "ZeroDivisionError" in outcome.reason and "evaluate" in outcome.reason and "log" in outcome.reason


@pytest.mark.parametrize(
    ("ending", "word", "pattern"),
    [
        (Ending(result=RESULT, exit_code=0), "completed", "result"),
        (Ending(result={**RESULT, "outcome": "noop"}, exit_code=0), "noop", "result"),
        (Ending(result={**RESULT, "outcome": "diverged"}, exit_code=0), "diverged", "result"),
        (Ending(result={**RESULT, "outcome": "data_short"}, exit_code=0), "data_short", "result"),
        (
            Ending(result={**RESULT, "outcome": "kernel_build_failed"}, exit_code=0),
            "kernel_build_failed",
            "result",
        ),
        (Ending(result={**RESULT, "outcome": "interrupted"}, stopped=True), "interrupted", "stopped"),
        (Ending(result={**RESULT, "outcome": "interrupted"}), "interrupted", "stopped from outside"),
        (Ending(signal=signal.SIGKILL, silent_s=901.0, phase="train"), "hang", "silent"),
        (Ending(signal=signal.SIGKILL, zygote_died=True), "interrupted", "zygote died"),
        (Ending(lost="its node was lost", node_lost=True), "interrupted", "node lost"),
        (Ending(lost="its actor died"), "interrupted", "place lost"),
        (Ending(signal=signal.SIGTERM, stopped=True), "interrupted", "stopped"),
        (Ending(signal=signal.SIGKILL, stopped=True), "interrupted", "stopped"),
        (Ending(signal=signal.SIGKILL), "interrupted", "killed from outside"),
        (Ending(signal=signal.SIGKILL, host_out_of_memory=True), "host_oom", "oom_kill counter"),
        (Ending(signal=signal.SIGSEGV, phase="train"), "crashed", "signal SIGSEGV"),
        (Ending(signal=signal.SIGABRT, torn=True), "crashed", "signal SIGABRT"),
        (Ending(exit_code=0), "crashed", "no result"),
        (Ending(exit_code=0, torn=True), "crashed", "torn result"),
        (Ending(exit_code=3), "crashed", "no result"),
    ],
)
def test_an_ending_has_a_word(ending: Ending, word: str, pattern: str) -> None:
    """Signals, silence, stops and exit codes each lead to one line of the table."""
    outcome = outcome_of(ending)
    assert (outcome.word, outcome.pattern) == (word, pattern)
    assert outcome.outcome_class == CLASSES[word]
    assert outcome.reason


def test_a_torn_result_does_not_count() -> None:
    """A result message before the tear is not believed either."""
    assert outcome_of(Ending(result=RESULT, torn=True, exit_code=0)).word == "crashed"
    assert outcome_of(Ending(result=RESULT, torn=True, signal=signal.SIGKILL)).word == "interrupted"


def test_a_complete_result_counts_whatever_came_after() -> None:
    """A process that crashes while it ends has done its work."""
    assert outcome_of(Ending(result=RESULT, signal=signal.SIGSEGV)).word == "completed"
    assert outcome_of(Ending(result=RESULT, zygote_died=True)).word == "completed"


def test_only_a_failure_that_says_something_of_the_variant_closes_an_attempt() -> None:
    """Out of memory and divergence are the configuration's; a full disk or a kill is nobody's fault."""
    assert {word for word, kind in CLASSES.items() if kind == "configuration"} == {
        "oom",
        "data_short",
        "data_refused",
        "model_refused",
        "diverged",
        "kernel_build_failed",
    }
    assert {word for word, kind in CLASSES.items() if kind == "unknown"} == {"crashed", "hang"}
    assert {CLASSES[word] for word in NOBODYS_FAULT} == {"infrastructure"}


NOBODYS_FAULT = ("host_oom", "disk_full", "disk_refused", "interrupted", "network_wait")

DYING = {
    "signal SIGSEGV": "os.kill(os.getpid(), 11)",
    "signal SIGABRT": "os.abort()",
    "no result": "os._exit(0)",
    "torn result": "os.write(fd, frame[:-1]); os._exit(0)",
    "killed from outside": "os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("pattern", DYING)
def test_real_deaths(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in this way, read through its pipe and its exit status, is taken for that."""
    (tmp_path / "dying").mkdir()
    (tmp_path / "dying" / "python").write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "from fsearch.system.messages import encode\n"
        "fd = int(sys.argv[sys.argv.index('--messages-fd') + 1])\n"
        f"frame = encode({RESULT})\n"
        f"{DYING[pattern]}\n"
    )
    (tmp_path / "dying" / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "dying" / "python"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    child = spawn("attempt", {}, tmp_path / "log")
    assert child._process is not None
    child._process.wait(60)
    assert child.ended
    assert outcome_of(child.close()).pattern == pattern, (tmp_path / "log").read_text()


def test_the_descendants_of_a_process_that_ended_are_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of ours that leaves somebody behind does not leave him running."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/left\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    child = spawn("prepare", {}, tmp_path / "log")
    assert child._process is not None
    child._process.wait(60)
    assert child.ended
    child.close()
    left = int((tmp_path / "left").read_text())
    assert wait_until_gone([left]) == []
