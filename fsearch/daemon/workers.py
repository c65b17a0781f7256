"""The processes that train, one attempt after another: what each is told, and the next one made ready.

While one trains, the worker of the attempt that will most likely follow loads weights and data, on the CPU
alone. Until it begins it is no attempt: nothing of it is written down, and where the guess was wrong it is
ended. It touches no accelerator before it is told to begin, when the one before has left it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsearch.daemon.child import Child
from fsearch.daemon.devices import Device
from fsearch.daemon.gaps import Gaps
from fsearch.daemon.host_memory import attempt_memory_mib
from fsearch.daemon.jobs import attempt_job
from fsearch.daemon.known import Known
from fsearch.daemon.ledger import Ledger
from fsearch.daemon.zygote import Zygote, ZygoteDied
from fsearch.plan import Plan
from fsearch.search.board import Run
from fsearch.search.expected import expected_next
from fsearch.search.rows import Attempt

FORGOTTEN_AFTER_S = 60.0
"""With nothing training for so long something else is waited for, and the memory is better left to others."""

_LATER = ("noop_reference", "look")
"""What a job says of rows that were still to come when it was guessed; the worker is told when it begins."""

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
    """The workers of one daemon."""

    def __init__(
        self,
        plans: Sequence[Plan],
        known: Known,
        ledger: Ledger,
        device: Device,
        threads: int,
        state: Path,
    ) -> None:
        self._plans, self._known, self._ledger = plans, known, ledger
        self._device, self._threads, self._state = device, threads, state
        self._gaps = Gaps()
        self._ready: _Ready | None = None
        self._guessed_for: Child | None = None
        self._took: tuple[str, float] | None = None  # of the last that ended: its search, MiB at its peak
        self._trained_s = time.monotonic()

    def start(self, run: Run, zygote: Zygote) -> Child:
        """A worker for an attempt: the one that is ready, if it is for this one, else one that is forked now.

        Raises:
            ZygoteDied: the zygote ended or hung instead of forking it.
        """
        job = self._job(run)
        ready = self._ready
        if ready is not None and ready.zygote is zygote and ready.job == _guessable(job) and ready.lives:
            with suppress(OSError):  # it has ended this moment
                ready.child.begin(job)
                self._ready = None
                return ready.child
        self.forget()
        return zygote.fork(job, self._ledger.log_of(run.spec, run.try_number))

    def ended(self, child: Child) -> None:
        """What ran has ended and is about to be written down."""
        child.read()
        self._gaps.ended(child)
        took_mib = (child.ending.result or {}).get("peak_memory_mib")
        if child.attempt is not None and took_mib is not None:
            self._took = child.attempt.spec.search_key, float(took_mib)

    def look_ahead(self, trains: Child | None, zygote: Zygote) -> None:
        """Once for each attempt that trains: have the worker of the next one make itself ready."""
        now_s = time.monotonic()
        if trains is not None:
            self._trained_s = now_s
        ready = self._ready
        if ready is not None:
            forgotten = now_s - self._trained_s > FORGOTTEN_AFTER_S
            if forgotten or ready.zygote is not zygote or not ready.lives:
                self.forget()
            return
        if trains is None or trains is self._guessed_for or "train" not in trains.began:
            return
        self._guessed_for = trains
        if trains.attempt is None or trains.ending.result is not None or trains.ended:
            return
        facts, record = self._known.facts, self._known.record
        run = expected_next(self._plans, facts, record, trains.attempt, now_s)
        if run is None or not self._has_room(trains.attempt):
            return
        job = self._job(run)
        with suppress(ZygoteDied):  # which is found out when the next one is to start
            child = zygote.fork({**job, "ahead": True}, self._ledger.log_of(run.spec, run.try_number))
            self._ready = _Ready(_guessable(job), child, zygote)

    def forget(self) -> None:
        """End the worker that is getting ready, if there is one."""
        if self._ready is not None:
            self._ready.child.discard()
            self._ready = None

    def _has_room(self, attempt: Attempt) -> bool:
        """Whether the machine has memory for a second worker.

        On the CPU, for twice what the last attempt of this search took: the one that trains may grow by as
        much, and the next one takes a part of it. On a GPU, for weights in float32, twice, and some more.
        """
        if self._device.cuda:
            model = self._known.model_of(attempt.spec)
            needed_mib = _ON_A_GPU_MIB + (0 if model is None else 4 * model.size_bytes / 2**20)
        elif self._took is not None and self._took[0] == attempt.spec.search_key:
            needed_mib = 2 * self._took[1]
        else:
            return False
        return attempt_memory_mib() >= needed_mib

    def _job(self, run: Run) -> dict[str, Any]:
        data = self._known.data_of(run.spec)
        return attempt_job(
            run,
            data,
            self._known.model_of(run.spec),
            fingerprint=self._known.facts.fingerprint(data),
            device=self._device.torch,
            threads=self._threads,
            backend=self._known.backend,
            state=self._state,
        )


def _guessable(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in _LATER}
