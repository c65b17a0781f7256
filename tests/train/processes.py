"""Real processes for the tests of train: a zygote, cold job processes, and the messages they send."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from fsearch.system.messages import Message, Reader, send, send_with_fds

LIMIT_S = 120.0
"""Only a guard against hanging for ever."""


class Worker:
    """A job in a process of its own, seen from outside: its pid, its messages so far, its log."""

    def __init__(self, messages_fd: int, log: Path) -> None:
        self.pid = 0
        self.messages: list[Message] = []
        self.reader = Reader(messages_fd)
        self.log = log

    def read(self) -> None:
        """Take in what has arrived, waiting a moment for it."""
        if not self.reader.closed:
            select.select([self.reader], [], [], 0.05)
            self.messages += self.reader.read_available()

    def wait_for(self, wanted: Callable[[Message], bool]) -> Message:
        """The first message that is `wanted`."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            for message in self.messages:
                if wanted(message):
                    return message
            assert not self.reader.closed and time.monotonic() < deadline, self.told()
            self.read()

    def begin(self, job: dict[str, Any]) -> None:
        """Tell one that was forked ahead to run its job."""
        send(self.reader.fd, job)

    def finish(self) -> Message:
        """Read to the end. The last message, which must be a result."""
        deadline = time.monotonic() + LIMIT_S
        while not self.reader.closed:
            assert time.monotonic() < deadline, self.told()
            self.read()
        assert not self.reader.torn, self.told()
        assert self.messages and self.messages[-1]["type"] == "result", self.told()
        return self.messages[-1]

    def told(self) -> str:
        """What there is to say when a test fails."""
        return f"messages: {self.messages}\nlog: {self.log.read_text(errors='replace')}"


class ZygoteProcess:
    """A running zygote."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._count = 0
        self._socket, theirs = socket.socketpair()
        self.log = folder / "zygote.log"
        with theirs, self.log.open("wb") as log:
            command = [sys.executable, "-m", "fsearch.train.zygote", "--fd", str(theirs.fileno())]
            self.process = subprocess.Popen(
                [*command, "--parent", str(os.getpid()), *arguments],
                pass_fds=[theirs.fileno()],
                stderr=log,
            )
        self._reader = Reader(self._socket.fileno())
        self._messages: list[Message] = []
        self.ready = self.wait_for(lambda message: "ready" in message)

    def wait_for(self, wanted: Callable[[Message], bool]) -> Message:
        """The first message of the zygote that is `wanted`."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            for message in self._messages:
                if wanted(message):
                    return message
            assert not self._reader.closed and time.monotonic() < deadline, self.log.read_text()
            select.select([self._socket], [], [], 0.05)
            self._messages += self._reader.read_available()

    def fork(self, job: dict[str, Any]) -> Worker:
        """Have a worker forked for `job`; with "ahead" in it, one that waits for `Worker.begin`."""
        self._count += 1
        read, write = [end.detach() for end in socket.socketpair()] if "ahead" in job else os.pipe()
        worker = Worker(read, self._folder / f"worker-{self._count}.log")
        forked = sum("forked" in message for message in self._messages)
        with worker.log.open("wb") as log:
            send_with_fds(self._socket, {"fork": job}, [write, log.fileno()])
        os.close(write)
        while sum("forked" in message for message in self._messages) == forked:
            select.select([self._socket], [], [], 0.05)
            self._messages += self._reader.read_available()
            assert not self._reader.closed, self.log.read_text()
        worker.pid = [message["forked"] for message in self._messages if "forked" in message][-1]
        return worker

    def exited(self, worker: Worker) -> Message:
        """What the zygote reports about the end of `worker`."""
        return self.wait_for(lambda message: message.get("exited") == worker.pid)

    def close(self) -> int:
        """Close the socket; the zygote's exit status."""
        self._socket.close()
        return self.process.wait(LIMIT_S)


@contextlib.contextmanager
def zygote(folder: Path, *arguments: str) -> Iterator[ZygoteProcess]:
    """A zygote for the time of a test."""
    started = ZygoteProcess(folder, *arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        started._socket.close()


def start_cold(
    module: str, job: dict[str, Any], folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> tuple[Worker, subprocess.Popen[bytes]]:
    """Start `python -m fsearch.train.<module>` on `job`."""
    read, write = os.pipe()
    worker = Worker(read, folder / f"{module}.log")
    with worker.log.open("wb") as log:
        command = [sys.executable, "-m", f"fsearch.train.{module}", "--messages-fd", str(write)]
        started = subprocess.Popen(
            [*command, "--parent", str(os.getpid()), *arguments],
            stdin=subprocess.PIPE,
            stderr=log,
            pass_fds=[write],
            env=environment,
        )
    os.close(write)
    worker.pid = started.pid
    stdin: IO[bytes] | None = started.stdin
    assert stdin is not None
    stdin.write(json.dumps(job).encode())
    stdin.close()
    return worker, started


def run_cold(
    module: str, job: dict[str, Any], folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> Message:
    """The result of `job` in a cold process."""
    worker, started = start_cold(module, job, folder, *arguments, environment=environment)
    result = worker.finish()
    assert started.wait(LIMIT_S) == 0
    return result


def numbers(result: Message) -> Message:
    """A result without what may differ between two runs of the same job."""
    machine = ("seconds", "peak_memory_mib", "late_torch_imports", "resumed_from_step")
    return {key: value for key, value in result.items() if key not in machine}


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)
