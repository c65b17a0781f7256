"""A process that runs one attempt for us: its messages, its progress, its end.

Two kinds here: a worker forked by the zygote, whose death the zygote reports, and a process of our own
(preparation, kernel build). What they have in common with one on another machine is `Running`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsearch.daemon.host_memory import oom_kills
from fsearch.daemon.logs import Log
from fsearch.daemon.outcomes import Ending
from fsearch.daemon.programs import command
from fsearch.daemon.training import Training
from fsearch.search.rows import Attempt
from fsearch.system import faults
from fsearch.system.messages import Reader, send
from fsearch.system.plain import plain
from fsearch.system.process import kill_group, start_time

PROGRESS_DEADLINE_S = {
    "start": 120.0,
    "load": 600.0,
    "train": 900.0,
    "evaluate": 900.0,
    "generate": 900.0,
    "finish": 300.0,
    "fetch": 120.0,  # says every second that bytes arrive, as long as some do
    "prepare": 1800.0,
    "download": 1800.0,
    "inspect": 1800.0,
    "build": 1800.0,
}
"""How long a phase may go without a message before it counts as a hang. Guards, never budgets.

$FSEARCH_DEADLINE_S, in seconds, takes the place of them all.
"""


class Running(ABC):
    """One running attempt, wherever it runs. `attempt` is set once its row is written."""

    pid: int | None = None  # of a process of this machine
    pid_started: float | None = None

    def __init__(self) -> None:
        self.ending = Ending()
        self.evaluations: list[dict[str, Any]] = []
        self.progress: dict[str, Any] = {}
        self.training = Training()
        self.attempt: Attempt | None = None
        self.energy_mj: float | None = None  # what the GPU took meanwhile
        self.began: dict[str, float] = {}  # when each phase did first, by the monotonic clock of its machine
        self.idle_s: float | None = None  # how long the device had no work before its first step
        self.followed = False  # whether it was asked what will come after it
        self._heard_s = time.monotonic()

    @abstractmethod
    def read(self) -> list[dict[str, Any]]:
        """Take in what the process has said and printed since; gives the new messages."""

    @property
    @abstractmethod
    def open(self) -> Sequence[Any]:
        """What may still have something to be read, for a selector."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the process has ended."""

    @property
    def trains(self) -> bool:
        """Whether its training has begun and is not over."""
        return "train" in self.began and "finish" not in self.began and not self.ended

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Have it write a checkpoint and report `interrupted`."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abstractmethod
    def close(self) -> Ending:
        """The whole story of a process that has ended."""

    def take(self, message: dict[str, Any]) -> None:
        """Take in one message of the process."""
        self._heard_s = time.monotonic()
        kind = message.get("type")
        if kind == "phase":
            self.ending.phase = str(message["phase"])
            self.began.setdefault(self.ending.phase, float(message["at_s"]))
        elif kind == "progress":
            if "doing" in message:
                message["doing"] = plain(str(message["doing"]))
            self.progress = message
            self.training.take(message)
        elif kind == "evaluation":
            self.evaluations.append(message)
            self.training.evaluated(message)
        elif kind == "result":
            self.ending.result = message
        elif kind == "error":
            self.ending.error = message

    def end_if_it_hangs(self) -> None:
        """End it if its phase has been silent for too long."""
        if self.overdue():
            self.read()  # what it has said while the record kept us waiting
        if self.overdue() and not self.ended and self.ending.silent_s is None:
            self.ending.silent_s = self.silent_s()
            self.kill()

    def silent_s(self) -> float:
        return time.monotonic() - self._heard_s

    def overdue(self) -> bool:
        """Whether the phase has been silent for too long."""
        asked = os.environ.get("FSEARCH_DEADLINE_S")
        deadline_s = float(asked) if asked else PROGRESS_DEADLINE_S.get(self.ending.phase, 900.0)
        return self.silent_s() > deadline_s


class Child(Running):
    """A process of this machine."""

    pid: int

    def __init__(
        self, pid: int, reader: Reader, log: Log, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        super().__init__()
        self.pid = pid
        self.pid_started = start_time(pid)
        self.reader = reader
        self.log = log
        self._process = process
        self._status: int | None = None
        self._oom_kills_before = oom_kills()

    @property
    def is_worker(self) -> bool:
        """Forked by the zygote, rather than a process of our own."""
        return self._process is None

    def read(self) -> list[dict[str, Any]]:
        self.log.drain()
        new = self.reader.read_available()
        for message in new:
            self.take(message)
        return new

    @property
    def open(self) -> Sequence[Any]:
        return [
            *([] if self.reader.closed else [self.reader]),
            *([] if self.log.ended else [self.log]),
        ]

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.ending.stopped = True
        if self.ended:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if start_time(self.pid) == self.pid_started:
            kill_group(self.pid)

    def begin(self, job: dict[str, Any]) -> None:
        """Have a worker that was forked ahead run its job now. Raises BrokenPipeError where it has ended."""
        send(self.reader.fd, job)
        self._oom_kills_before = oom_kills()
        self._heard_s = time.monotonic()

    def discard(self) -> None:
        """End a worker that was forked ahead and never began."""
        self.kill()
        os.close(self.reader.fd)
        self.log.close()

    def zygote_reported(self, status: int) -> None:
        self._status = status

    @property
    def ended(self) -> bool:
        if self._process is not None and self._status is None:
            code = self._process.poll()
            if code is not None:
                self._status = -code if code < 0 else code << 8
        return self._status is not None

    def close(self) -> Ending:
        """The same, and its descendants are killed."""
        assert self._status is not None
        faults.point("before a process is taken leave of")
        if self._process is not None:
            kill_group(self.pid)
        self.read()
        self.ending.torn = self.reader.torn
        if os.WIFSIGNALED(self._status):
            self.ending.signal = os.WTERMSIG(self._status)
            if self.ending.signal == signal.SIGKILL:
                self.ending.host_out_of_memory = oom_kills() > self._oom_kills_before
        else:
            self.ending.exit_code = os.waitstatus_to_exitcode(self._status)
        os.close(self.reader.fd)
        self.log.close()
        faults.point("after a process is taken leave of")
        return self.ending


def spawn(module: str, job: dict[str, Any], log_path: Path) -> Child:
    """Start a program (see `programs`) on a job, tied to our life; what it prints is logged."""
    return start(command(module), job, log_path)


def start(program: list[str], job: dict[str, Any], log_path: Path) -> Child:
    """The same with a program of whatever kind that takes such arguments and ties itself to its parent."""
    read_end, write_end = os.pipe()
    log = Log(log_path)
    arguments = ["--messages-fd", str(write_end), "--parent", str(os.getpid())]
    faults.point("before a program is started")
    process = subprocess.Popen(
        [*program, *arguments],
        stdin=subprocess.PIPE,
        stdout=log.writer,
        stderr=log.writer,
        pass_fds=[write_end],
        start_new_session=True,
    )
    os.close(write_end)
    os.close(log.writer)
    faults.point("before a program has its job")
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; its status tells
    faults.point("after a program is started")
    return Child(process.pid, Reader(read_end), log, process)
