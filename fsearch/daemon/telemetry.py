"""Readings of the GPU while an attempt runs, once a second, and the energy that it took.

They are taken in the daemon's loop, between two other things: a reading takes milliseconds. A crash loses the
last ones that were not written yet; they decide nothing.
"""

from __future__ import annotations

import time

from fsearch.daemon.card import Card, others_mib
from fsearch.daemon.child import Child
from fsearch.daemon.nvml import Reading
from fsearch.store import Store
from fsearch.store.records import Sample

SAMPLE_EVERY_S = 1.0
_WRITTEN_TOGETHER = 10


class Telemetry:
    """The readings of one attempt after another, written into the record."""

    def __init__(self, store: Store | None, card: Card) -> None:
        self._store, self._card = store, card
        self._child: Child | None = None
        self._samples: list[Sample] = []
        self.latest: Sample | None = None  # of the attempt that runs

    def before(self) -> None:
        """Read the GPU as it is before the process of the next attempt is there."""
        self._began_s = self._looked_s = time.monotonic()
        reading = self._card.look()
        self._energy_mj = reading.energy_mj
        self._others_mib = others_mib(reading, None, self._card.level_mib)

    def begin(self, child: Child) -> None:
        """The attempt has begun, and its row is written."""
        self._child, self.latest = child, None
        child.ending.others_mib = self._others_mib

    def sample(self) -> None:
        """Take a reading if one is due."""
        if self._child is not None and time.monotonic() - self._looked_s >= SAMPLE_EVERY_S:
            self._take(self._child, self._child.pid)

    def end(self) -> None:
        """The attempt has ended: note on it what it took and what others took, before its row is closed."""
        if self._child is None:
            return
        child, self._child = self._child, None
        last = self._take(child, None)
        child.energy_mj = last.energy_mj
        self._write(child)
        self._card.leaves(child.pid, time.monotonic())

    def _take(self, child: Child, worker: int | None) -> Sample:
        """Read the GPU, on which the process `worker` of ours may be now."""
        self._looked_s = time.monotonic()
        reading = self._card.look()
        if worker is None and child.pid in reading.processes:
            worker = child.pid  # it has ended, but NVML has not noticed yet
        others = others_mib(reading, worker, self._card.level_mib)
        child.ending.others_mib = max(child.ending.others_mib, others)
        sample = Sample(
            offset_s=self._looked_s - self._began_s,
            utilisation=reading.utilisation,
            memory_mib=reading.used_mib,
            power_w=reading.power_w,
            temperature_c=reading.temperature_c,
            energy_mj=self._taken_mj(reading),
        )
        self._samples.append(sample)
        self.latest = sample
        if len(self._samples) >= _WRITTEN_TOGETHER:
            self._write(child)
        return sample

    def _taken_mj(self, reading: Reading) -> float | None:
        """Energy since the attempt began; None where the counter is missing or began anew."""
        if self._energy_mj is None or reading.energy_mj is None or reading.energy_mj < self._energy_mj:
            return None
        return reading.energy_mj - self._energy_mj

    def _write(self, child: Child) -> None:
        self.write(child, self._samples)
        self._samples = []

    def write(self, child: Child, samples: list[Sample]) -> None:
        """Write readings into the record."""
        assert self._store is not None and child.attempt is not None
        self._store.add_telemetry(child.attempt.spec.id, child.attempt.try_number, samples)
