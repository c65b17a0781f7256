"""SIGTERM and Ctrl-C ask for a stop after a checkpoint, a second one for a stop at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any


class StopSignals:
    """Counts the requests to stop, from the moment it is made. Main thread only."""

    def __init__(self) -> None:
        self.count = 0
        self._first_s = 0.0
        self.wakeup_fd, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal stops nothing
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)

    def asked_for_s(self) -> float:
        """Seconds since the first request; 0 if there was none."""
        return time.monotonic() - self._first_s if self.count else 0.0

    def drain(self) -> None:
        """Forget the wake-ups: `wakeup_fd` becomes readable again with the next signal."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup_fd, 4096)

    def _ask(self, number: int, frame: Any) -> None:
        self._first_s = self._first_s or time.monotonic()
        self.count += 1
