"""The daemon's end of the zygote: start it, have it fork workers, hear of their deaths, replace it."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from fsearch.daemon.child import Child
from fsearch.daemon.devices import Device
from fsearch.daemon.logs import Log
from fsearch.daemon.programs import command
from fsearch.system import faults
from fsearch.system.messages import Decoder, Reader, send_with_fds
from fsearch.system.process import kill_group

ANSWER_DEADLINE_S = 120.0


class ZygoteDied(Exception):
    """The zygote ended, or did not answer in time and was ended."""


class Zygote:
    """A running zygote process. Start it from the main thread: it dies with the thread that made it."""

    def __init__(self, device: Device, kernel_cache: Path, log: Path) -> None:
        self.device = device
        self.kernel_cache = kernel_cache
        self.log = log
        ours, theirs = socket.socketpair()
        arguments = ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        arguments += ["--kernel-cache", str(kernel_cache)]
        arguments += ["--cuda", *device.cuda] if device.cuda else []
        faults.point("before a zygote is started")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command("zygote"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **device.environment},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        faults.point("after a zygote is started")
        self.socket = ours
        self._decoder = Decoder()
        self._answers: list[dict[str, Any]] = []
        self._open = True

    def successor(self) -> Zygote:
        """A new one like it."""
        return Zygote(self.device, self.kernel_cache, self.log)

    @property
    def alive(self) -> bool:
        return self._open and self.process.poll() is None

    def wait_ready(self) -> str | None:
        """Wait until torch is loaded; the backend of the kernel it has loaded, if any.

        Raises:
            ZygoteDied: it did not come up; its log says why.
        """
        backend = self._wait_for("ready").get("backend")
        return str(backend) if backend else None

    def fork(self, job: dict[str, Any], log_path: Path) -> Child:
        """Have a worker forked for a job; what it prints is logged.

        With "ahead" in its job it makes itself ready and waits for `Child.begin`.

        Raises:
            ZygoteDied: it ended or hung instead of answering.
        """
        ours, theirs = socket.socketpair()
        read_end, write_end = ours.detach(), theirs.detach()
        log = Log(log_path)
        try:
            try:
                faults.point("before a fork is asked for")
                send_with_fds(self.socket, {"fork": job}, [write_end, log.writer])
            finally:
                os.close(write_end)
                os.close(log.writer)
            faults.point("after a fork is asked for")
            pid = int(self._wait_for("forked")["forked"])
            faults.point("after a fork")
            return Child(pid, Reader(read_end), log)
        except (OSError, ZygoteDied) as error:
            os.close(read_end)
            log.close()
            raise ZygoteDied(str(error)) from error

    def deaths(self) -> list[dict[str, Any]]:
        """The workers that have died since: pid, waitpid status, rusage."""
        self._receive(0.0)
        found = [answer for answer in self._answers if "exited" in answer]
        self._answers = [answer for answer in self._answers if "exited" not in answer]
        return found

    def end(self) -> None:
        """End it and reap it; its workers die with it."""
        faults.point("before a zygote is ended")
        self.socket.close()
        self._open = False
        if self.process.poll() is None:
            kill_group(self.process.pid)
        self.process.wait()
        faults.point("after a zygote is ended")

    def _wait_for(self, key: str) -> dict[str, Any]:
        deadline_s = time.monotonic() + ANSWER_DEADLINE_S
        while True:
            for answer in self._answers:
                if key in answer:
                    self._answers.remove(answer)
                    return answer
            if not self._open:
                raise ZygoteDied(
                    f"the process that loads torch ended before it answered; {self.log} says why"
                )
            if time.monotonic() > deadline_s:
                late = f"did not answer in {ANSWER_DEADLINE_S:.0f} s"
                raise ZygoteDied(f"the process that loads torch {late}; {self.log} may say why")
            self._receive(0.2)

    def _receive(self, timeout_s: float) -> None:
        if not self._open:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            while self._open and selector.select(timeout_s):
                try:
                    data = self.socket.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    self._open = False
                    break
                self._answers += self._decoder.feed(data)
                timeout_s = 0.0
