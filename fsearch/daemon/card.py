"""The GPU that one daemon uses, as NVML sees it: what an attempt may take of its memory, who else takes
some, and whether the attempt before has left it.

Where pids are not those of the host, as in most containers, no process can be told from another; then memory
alone says what there is to say. NVML that does not answer is an event, and blanks, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from fsearch.daemon.nvml import NvmlError, Reading, read
from fsearch.store.records import Level

CONTEXT_MIB = 1024
"""What is left to CUDA itself: its context and the code of its kernels, which no limit of torch's counts.

Reported for torch's processes are 0.3 to 0.6 GiB, more on larger GPUs; what is really taken shows in the
telemetry of an attempt, beside its own peak.
"""

NOTICED_MIB = 256
"""So much more memory in use than when the daemon started means that somebody else takes an attempt's.

Less than what `CONTEXT_MIB` usually leaves over, and more than a desktop's windows come and go with.
"""

LEAVE_DEADLINE_S = 30.0
"""How long a next attempt waits for the memory of the one before. Freeing it takes a moment, not seconds."""


def others_mib(reading: Reading, worker: int | None, level_mib: float | None) -> float:
    """Memory in MiB that others have taken since `level_mib` was in use; 0 where that cannot be told.

    `worker` is the process of ours that may be on the GPU now, None if there is none.
    """
    if reading.used_mib is None or level_mib is None:
        return 0.0
    own_mib = 0.0 if worker is None else reading.processes.get(worker)
    return 0.0 if own_mib is None else max(0.0, reading.used_mib - own_mib - level_mib)


def left_behind(reading: Reading, worker: int, level_mib: float | None) -> str | None:
    """What a process that has ended still holds of the GPU, as a sentence; None if nothing is known of."""
    if worker in reading.processes:
        return f"process {worker}, the attempt before, has not left the GPU"
    if others_mib(reading, None, level_mib) > NOTICED_MIB:
        return f"{reading.used_mib:.0f} MiB of the GPU are in use, {level_mib:.0f} MiB when fsearch started"
    return None


class Card:
    """A GPU, and how much of its memory was in use when the daemon started."""

    def __init__(self, uuid: str, event: Callable[[Level, str], object]) -> None:
        self._uuid, self._event = uuid, event
        self._silent = False
        self.lost = False
        first = self.look()
        self.level_mib = self._settled_mib = first.used_mib
        self.attempt_memory_mib = (
            None if first.free_mib is None else max(1, int(first.free_mib - CONTEXT_MIB))
        )
        """What an attempt may take: all that was free, less `CONTEXT_MIB`; None if nobody knows."""
        self._leaving: tuple[int, float] | None = None

    def look(self) -> Reading:
        """A reading, blank where NVML does not answer. `lost` says whether the GPU is."""
        try:
            reading = read(self._uuid)
        except NvmlError as error:
            self.lost = error.lost
            if not self._silent:
                what = "utilisation, memory, power and energy stay blank"
                self._event("warning", f"NVML does not answer for {self._uuid} ({error}): {what}")
            self._silent = True
            return Reading()
        if self._silent:
            self._event("info", f"NVML answers again for {self._uuid}")
        self._silent = self.lost = False
        return reading

    def leaves(self, worker: int, now_s: float) -> None:
        """A process of ours has ended; until `waits_for` says otherwise, it may still hold memory."""
        self._leaving = worker, now_s + LEAVE_DEADLINE_S

    def waits_for(self, now_s: float) -> str | None:
        """Why the next attempt should not start yet; None when it may.

        What is still held at the deadline is somebody else's, and is not waited for again.
        """
        if self._leaving is None:
            return None
        worker, deadline_s = self._leaving
        reading = self.look()
        held = left_behind(reading, worker, self._settled_mib)
        if held is not None and now_s < deadline_s:
            return held
        self._leaving = None
        self._settled_mib = self.level_mib
        if held is not None:
            self._settled_mib = reading.used_mib
            self._event("warning", f"{held}; the next attempt starts all the same, and may have too little")
        return None
