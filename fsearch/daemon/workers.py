"""The processes that train, one attempt after another: what each is told, and the gaps between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsearch.daemon.child import Child
from fsearch.daemon.devices import Device
from fsearch.daemon.gaps import Gaps
from fsearch.daemon.jobs import attempt_job
from fsearch.daemon.known import Known
from fsearch.daemon.ledger import Ledger
from fsearch.daemon.zygote import Zygote
from fsearch.search.board import Run


class Workers:
    """The workers of one daemon."""

    def __init__(self, known: Known, ledger: Ledger, device: Device, threads: int, state: Path) -> None:
        self._known, self._ledger = known, ledger
        self._device, self._threads, self._state = device, threads, state
        self._gaps = Gaps()

    def start(self, run: Run, zygote: Zygote) -> Child:
        """A worker for an attempt.

        Raises:
            ZygoteDied: the zygote ended or hung instead of forking it.
        """
        return zygote.fork(self._job(run), self._ledger.log_of(run.spec, run.try_number))

    def ended(self, child: Child) -> None:
        """A worker has ended and is about to be written down."""
        self._gaps.ended(child)

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
