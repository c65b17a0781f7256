"""The outcome table: from how a process ended to one word, its class, and a sentence for a person.

Every way in which an attempt can end is a line here. `pattern` names the line that matched, and is kept
in the row, so that a person can contest it.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field, replace
from typing import Any

from fsearch.daemon.card import NOTICED_MIB
from fsearch.daemon.fetch_failures import NETWORK_PHASES, PHASES, failure_of, retry_after_s, sentence
from fsearch.search.outcomes import CLASSES, OutcomeClass
from fsearch.system.plain import plain


@dataclass(slots=True)
class Ending:
    """What is known about a process that has ended."""

    result: dict[str, Any] | None = None  # its complete result message
    error: dict[str, Any] | None = None  # its error message: exception, message, phase, chain
    torn: bool = False  # its messages ended in the middle of one
    exit_code: int | None = None
    signal: int | None = None
    phase: str = "start"
    stopped: bool = False  # we asked it to stop
    silent_s: float | None = None  # we ended it after so long without progress
    zygote_died: bool = False
    host_out_of_memory: bool = False  # the kernel's out-of-memory killer struck meanwhile
    gpu_lost: bool = False  # NVML said so, and we ended it
    lost: str = ""  # why its place is gone, if it is
    node_lost: bool = False  # together with the node
    others_mib: float = 0.0  # of the GPU's memory, what others took meanwhile and have not had at our start


@dataclass(frozen=True, slots=True)
class Outcome:
    word: str
    reason: str
    pattern: str
    retry_after_s: float | None = None  # what a hub asked for
    outcome_class: OutcomeClass = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome_class", CLASSES[self.word])
        object.__setattr__(self, "reason", plain(self.reason))


_EXCEPTIONS: list[tuple[str, str, str, str]] = [
    # (exception, text, outcome, sentence): regular expressions, the first line that fits
    (r"\.OutOfMemory$", r"", "oom", "{message}"),
    (r"torch\.(cuda\.)?OutOfMemoryError$", r"", "oom", "out of memory: {message}"),
    (r"", r"(?i)cuda (error: )?out of memory|_STATUS_ALLOC_FAILED", "oom", "out of memory: {message}"),
    (r"", r"DefaultCPUAllocator: (can't|not enough)|std::bad_alloc", "oom", "out of memory: {message}"),
    (r"MemoryError$", r"", "oom", "out of memory: {message}"),
    (r"OSError$", r"Errno 12\b", "host_oom", "the machine has no memory left: {message}"),
    (r"\.(CheckpointError|HubError)$", r"", "model_refused", "{message}"),
    (r"\.HubUnreachable$", r"", "network_wait", "{message}"),
    (r"\.ModelChanged$", r"", "model_changed", "{message}"),
]

_LOST = "the GPU cannot be used, look at nvidia-smi and at the kernel's log (dmesg): {message}"

_REST: list[tuple[str, str, str, str]] = [
    # what neither the lines above know nor the table of `fetch_failures`
    (r"", r"No space left on device|Errno 28|quota exceeded", "disk_full", "the disk is full: {message}"),
    (r"", r"PytorchStreamWriter failed writing", "disk_full", "the disk took no more: {message}"),
    (r"", r"(?i)gpu is lost|fallen off the bus|gpu requires (restart|reset)", "gpu_lost", _LOST),
    (r"", r"(?i)uncorrectable (ECC|NVLink) error|hardware stack error", "gpu_lost", _LOST),
    (r"", r"(?i)system not yet initialized|CUDA driver initialization failed", "gpu_lost", _LOST),
    (r"", r"(?i)no CUDA-capable device|no NVIDIA driver|no CUDA GPUs are available", "gpu_lost", _LOST),
    (r"", r"(?i)driver version is insufficient|driver/library version mismatch", "gpu_lost", _LOST),
    (r"", r"(?i)CUDA error: unknown error|CUDA unknown error", "gpu_lost", _LOST),
    (r"", r"(?i)busy or unavailable", "gpu_contended", "another process holds the GPU: {message}"),
    (
        r"",
        r"device-side assert|illegal memory access|unspecified launch failure|misaligned address",
        "crashed",
        "the GPU stopped the kernel: {message}",
    ),
    (r"", r"", "crashed", "{exception} while in phase {phase}: {message}; the log has the traceback"),
]


def outcome_of(ending: Ending) -> Outcome:
    """The outcome of a process that has ended. A result counts only when complete.

    An `oom` while others took memory that was free when the daemon started says nothing about the attempt.
    """
    found = _told_by(ending)
    if found.word != "oom" or ending.others_mib <= NOTICED_MIB:
        return found
    others = f"other processes took {ending.others_mib:.0f} MiB that were free when fsearch started"
    return Outcome(
        "gpu_contended", f"{found.reason}; meanwhile {others}", f"{found.pattern}, memory of others"
    )


def _told_by(ending: Ending) -> Outcome:
    if ending.result is not None and not ending.torn:
        word = str(ending.result["outcome"])
        pattern = "result"
        if word == "interrupted":
            pattern = "stopped" if ending.stopped else "stopped from outside"
        return Outcome(word, str(ending.result.get("reason", "")), pattern)
    if ending.lost:
        return Outcome("interrupted", ending.lost, "node lost" if ending.node_lost else "place lost")
    if ending.gpu_lost:
        reason = f"the GPU is lost, says NVML, in phase {ending.phase}; the driver's log may say why"
        return Outcome("gpu_lost", reason, "NVML: GPU is lost")
    if ending.silent_s is not None and ending.phase in NETWORK_PHASES:
        silence = f"no byte arrived for {ending.silent_s:.0f} s while it was fetched; it is tried again"
        return Outcome("network_wait", silence, "silent")
    if ending.silent_s is not None:
        silence = f"no progress for {ending.silent_s:.0f} s in phase {ending.phase}; it was ended"
        return Outcome("hang", silence, "silent")
    if ending.zygote_died:
        return Outcome(
            "interrupted", "the process that forks workers died, and its worker with it", "zygote died"
        )
    if ending.error is not None:
        return _of_exception(ending)
    if ending.stopped:
        return Outcome("interrupted", "it was stopped before it could report", "stopped")
    if ending.signal == signal.SIGKILL:
        if ending.host_out_of_memory:
            return Outcome("host_oom", "the machine ran out of memory and ended it", "oom_kill counter")
        return Outcome("interrupted", "it was killed from outside (SIGKILL)", "killed from outside")
    if ending.signal is not None:
        name = signal.Signals(ending.signal).name
        return Outcome("crashed", f"it died of {name} in phase {ending.phase}; see the log", f"signal {name}")
    how = "with a torn result" if ending.torn else "without a result"
    reason = f"it ended {how} (exit code {ending.exit_code}) in phase {ending.phase}; see the log"
    return Outcome("crashed", reason, "torn result" if ending.torn else "no result")


def _of_exception(ending: Ending) -> Outcome:
    """By `_EXCEPTIONS`, by the table of `fetch_failures` where something is fetched or read, by `_REST`."""
    assert ending.error is not None
    chain = ending.error.get("chain", [])
    wait_s = retry_after_s(chain)
    if known := _listed(_EXCEPTIONS, ending):
        return replace(known, retry_after_s=wait_s)
    if ending.phase in PHASES and (found := failure_of(chain, ending.phase)):
        failure, link = found
        return Outcome(failure.outcome, sentence(failure, link), failure.pattern, wait_s)
    other = _listed(_REST, ending)
    assert other is not None, "its last line fits everything"
    return other


def _listed(table: list[tuple[str, str, str, str]], ending: Ending) -> Outcome | None:
    assert ending.error is not None
    exception, message = str(ending.error.get("exception", "")), str(ending.error.get("message", ""))
    for kind, text, word, words in table:
        if re.search(kind, exception) and re.search(text, message):
            reason = words.format(exception=exception, message=message.strip(), phase=ending.phase)
            return Outcome(word, reason, f"exception {kind or text or 'any'}")
    return None
