"""What keeps the daemon from writing its record for a while: somebody else's lock, a full disk.

The daemon stands still meanwhile; what trains trains on, up to its next report. A full disk is waited out for
as long as it takes, a lock for `LOCK_LIMIT_S`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fsearch.daemon.listener import Listener
from fsearch.daemon.stop import StopSignals
from fsearch.store import StoreError, StoreLocked

LOCK_LIMIT_S = 600.0
PAUSE_S = 1.0


class Hindrance:
    """To be asked whenever a write has failed for such a reason; see `Store.hindered`."""

    def __init__(self, listener: Listener, stop: StopSignals) -> None:
        self._listener = listener
        self._stop = stop
        self._since_s: float | None = None
        self._what = ""
        self.meanwhile: Callable[[str, str, float], None] = lambda kind, why, waited_s: None

    def __call__(self, error: StoreError) -> bool:
        """Wait a little; whether to write again. False once a stop was asked for, or the limit is over."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
            self._what = "the record was locked" if isinstance(error, StoreLocked) else "the disk was full"
            self._listener.event("warning", f"paused until the record can be written again: {error}")
        if self._stop.count or (isinstance(error, StoreLocked) and now_s - self._since_s > LOCK_LIMIT_S):
            return False
        kind = "record" if isinstance(error, StoreLocked) else "disk"
        self.meanwhile(kind, str(error), now_s - self._since_s)
        time.sleep(PAUSE_S)
        return True

    @property
    def lasts(self) -> bool:
        """Whether the record could not be written the last time."""
        return self._since_s is not None

    def over(self) -> str:
        """The sentence about a pause that has ended, once; "" for none. To be asked after a write."""
        if self._since_s is None:
            return ""
        passed_s, self._since_s = time.monotonic() - self._since_s, None
        return f"{self._what} for {passed_s:.0f} s; nothing was lost, and the run goes on"
