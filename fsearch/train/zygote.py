"""Holds torch ready and forks a worker for every attempt: a start in tenths of a second instead of seconds.

    python -m fsearch.train.zygote --fd N --parent PID [--kernel-cache DIR] [--cuda sm_90 ...]

`fd` is a Unix stream socket. In come {"fork": job} with two file descriptors, the worker's message pipe and
its log file; out go {"ready": true, "pid", "backend"} once, {"forked": pid, "started": start time} and, when
a worker has died, {"exited": pid, "status": as waitpid gives it, "rusage": {...}}. The end of the socket ends
the zygote.

It has one thread, runs no tensor operation and never touches an accelerator, because only then is a forked
worker as good as a cold process. A worker dies with it, and it dies with its parent. Nothing heavy is
imported at the top of this module: the process must be tied to its parent first.

Deliberately not here: time limits, retries, what a death means.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fsearch.system import messages, process
from fsearch.train.job import Job, RunJob, run_reporting, set_environment

_RECEIVE_BYTES = 1 << 16
_FDS_PER_JOB = 2

Load = Callable[[Path | None, Sequence[str]], tuple[RunJob, str | None]]
"""Loads what workers need, with the kernel for CUDA targets: what they do, and the backend if any."""


class Zygote:
    """The loop: requests from the socket, deaths from SIGCHLD."""

    def __init__(self, channel: socket.socket, run: RunJob) -> None:
        self._channel, self._run = channel, run
        self._decoder = messages.Decoder()
        self._fds: deque[int] = deque()  # received, not yet given to a worker
        self._death_read, self._death_write = os.pipe()
        os.set_blocking(self._death_read, False)
        os.set_blocking(self._death_write, False)

    def serve(self) -> None:
        """Fork and reap until the socket ends."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler the wakeup pipe gets nothing
        signal.set_wakeup_fd(self._death_write, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._channel, selectors.EVENT_READ)
        selector.register(self._death_read, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if self._death_read in ready:
                os.read(self._death_read, _RECEIVE_BYTES)
                self._reap()
            if self._channel.fileno() in ready and not self._receive():
                return

    def _receive(self) -> bool:
        """Handle the requests that have come; False at the end of the socket."""
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, _RECEIVE_BYTES, 8 * _FDS_PER_JOB)
        except ConnectionResetError:  # whoever asks died before it had read all that it was told
            return False
        if not data:
            return False
        self._fds.extend(fds)
        for request in self._decoder.feed(data):
            job_fds = [self._fds.popleft() for _ in range(_FDS_PER_JOB)]
            self._fork(request["fork"], *job_fds)
            for fd in job_fds:
                os.close(fd)
        if self._decoder.torn:
            raise RuntimeError("the request stream of the zygote is damaged")
        return True

    def _fork(self, job: Job, messages_fd: int, log_fd: int) -> None:
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            print(f"the zygote has {threads} threads, not one; a forked worker may hang", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_a_worker(zygote, job, messages_fd, log_fd)
        messages.send(self._channel.fileno(), {"forked": pid, "started": process.start_time(pid)})

    def _be_a_worker(self, zygote: int, job: Job, messages_fd: int, log_fd: int) -> None:
        """Run the job in the forked child. Never returns."""
        status = 1
        try:
            os.setsid()
            process.die_with_parent(zygote)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            _keep_only(messages_fd, log_fd)
            status = run_reporting(self._run, job, messages_fd)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Report every worker that has died, and end what it may have started."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            process.kill_group(dead.si_pid)  # before reaping, while nobody else can have the pid
            pid, status, usage = os.wait4(dead.si_pid, 0)
            rusage = {
                "maxrss_mib": usage.ru_maxrss / 1024,
                "user_s": usage.ru_utime,
                "system_s": usage.ru_stime,
            }
            messages.send(self._channel.fileno(), {"exited": pid, "status": status, "rusage": rusage})


def main(load: Load) -> int:
    """The body of the zygote process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--kernel-cache", type=Path)
    parser.add_argument("--cuda", nargs="*", default=())
    arguments = parser.parse_args()
    process.die_with_parent(arguments.parent)
    # The terminal's Ctrl-C and hang-up are the parent's to act on; it ends us by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run, backend = load(arguments.kernel_cache, arguments.cuda)
    gc.collect()
    gc.freeze()  # so that a worker's collections leave the shared pages shared
    channel = socket.socket(fileno=arguments.fd)
    ready: dict[str, Any] = {"ready": True, "pid": os.getpid(), "backend": backend}
    messages.send(channel.fileno(), ready)
    Zygote(channel, run).serve()
    return 0


def load_training(kernel_cache: Path | None, cuda: Sequence[str]) -> tuple[RunJob, str | None]:
    """Import all that an attempt imports and load the kernel. Its backend is None if there is none."""
    set_environment()
    from fsearch import kernels
    from fsearch.train import trainer
    from fsearch.train.backend import load_kernel

    load_kernel(kernel_cache, cuda)
    backend = kernels.backend("cuda" if cuda else "cpu") if kernels.is_loaded() else None
    return partial(trainer.run, kernel_cache=kernel_cache, cuda=cuda), backend


def _keep_only(messages_fd: int, log_fd: int) -> None:
    """Make the log stdout and stderr, nothing stdin, and close everything else but the message pipe."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd != messages_fd:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is gone by now
                os.close(fd)


if __name__ == "__main__":
    sys.exit(main(load_training))
