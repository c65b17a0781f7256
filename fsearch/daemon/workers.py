"""The processes that train in one place, one attempt after another, and the next one made ready.

While one trains, the worker of the attempt that will most likely follow loads weights and data, on the CPU
alone. Until it begins it is no attempt: nothing of it is written down, and where the guess was wrong it is
ended. It touches no accelerator before it is told to begin, when the one before has left it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsearch.daemon.child import Child, Running
from fsearch.daemon.gaps import Gaps
from fsearch.daemon.host_memory import attempt_memory_mib
from fsearch.daemon.zygote import Zygote, ZygoteDied

FORGOTTEN_AFTER_S = 60.0
"""With nothing training for so long something else is waited for, and the memory is better left to others."""

_LATER = ("noop_reference", "look")
"""What a job says of rows that were still to come when it was guessed; the worker is told when it begins."""

_OF_A_SEARCH = ("model", "data", "recipe", "batch")
"""Where two jobs agree in these, what the one took the other may take."""

_ON_A_GPU_MIB = 1024
"""Of the machine's own memory, what a worker for a GPU takes beside its weights, and more."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker that was forked ahead, and for what."""

    job: dict[str, Any]
    child: Child
    zygote: Zygote

    @property
    def lives(self) -> bool:
        self.child.read()
        failed = self.child.reader.closed or self.child.ending.error is not None
        return self.zygote.alive and not failed


class Workers:
    """The workers of one place. They are forked by its zygote, whichever that is."""

    def __init__(self) -> None:
        self._gaps = Gaps()
        self._ready: _Ready | None = None
        self._job: dict[str, Any] = {}  # of the one that was started last
        self._took: tuple[list[Any], float] | None = None  # the last that ended: its search, MiB at its peak
        self._trained_s = time.monotonic()

    def start(self, job: dict[str, Any], log: Path, zygote: Zygote) -> Child:
        """A worker for a job: the one that is ready, if it is for this one, else one that is forked now.

        Raises:
            ZygoteDied: the zygote ended or hung instead of forking it.
        """
        self._job, ready = job, self._ready
        if ready is not None and ready.zygote is zygote and ready.job == _guessable(job) and ready.lives:
            with suppress(OSError):  # it has ended this moment
                ready.child.begin(job)
                self._ready = None
                return ready.child
        self.forget()
        return zygote.fork(job, log)

    def ended(self, child: Running) -> None:
        """What ran has ended and is about to be written down."""
        self._gaps.ended(child)
        took_mib = (child.ending.result or {}).get("peak_memory_mib")
        if took_mib is not None:
            self._took = _search_of(self._job), float(took_mib)

    def make_ready(self, job: dict[str, Any], log: Path, zygote: Zygote) -> None:
        """Have the worker of a job make itself ready, where the machine has memory for a second one."""
        if not self._has_room(job, on_gpu=bool(zygote.device.cuda)):
            return
        with suppress(ZygoteDied):  # which is found out when the next one is to start
            self.forget()
            self._ready = _Ready(_guessable(job), zygote.fork({**job, "ahead": True}, log), zygote)

    def tend(self, zygote: Zygote, *, trains: bool) -> None:
        """End the one that is ready where it can no longer begin, or nothing has trained for long."""
        now_s = time.monotonic()
        if trains:
            self._trained_s = now_s
        ready = self._ready
        forgotten = now_s - self._trained_s > FORGOTTEN_AFTER_S
        if ready is not None and (forgotten or ready.zygote is not zygote or not ready.lives):
            self.forget()

    def forget(self) -> None:
        """End the worker that is getting ready, if there is one."""
        if self._ready is not None:
            self._ready.child.discard()
            self._ready = None

    def _has_room(self, job: dict[str, Any], *, on_gpu: bool) -> bool:
        """Whether the machine has memory for a second worker.

        On the CPU, for twice what the last attempt of this search took: the one that trains may grow by as
        much, and the next one takes a part of it. On a GPU, for weights in float32, twice, and some more.
        """
        if on_gpu:
            file = job["model_file"]
            needed_mib = _ON_A_GPU_MIB + (0.0 if file is None else 4 * file["size_bytes"] / 2**20)
        elif self._took is not None and self._took[0] == _search_of(job):
            needed_mib = 2 * self._took[1]
        else:
            return False
        return attempt_memory_mib() >= needed_mib


def _guessable(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in _LATER}


def _search_of(job: dict[str, Any]) -> list[Any]:
    return [job[name] for name in _OF_A_SEARCH]
