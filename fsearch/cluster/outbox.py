"""What an actor has to say, kept until it is known to have been heard: an answer may be lost on the way."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

Said = dict[str, Any]


class Outbox:
    """Messages numbered from 1. One thread puts, another takes."""

    def __init__(self) -> None:
        self._said: deque[tuple[int, Said]] = deque()
        self._last = 0
        self._changed = threading.Condition()

    def put(self, said: Said) -> None:
        with self._changed:
            self._last += 1
            self._said.append((self._last, said))
            self._changed.notify()

    def take(self, heard: int, wait_s: float) -> list[tuple[int, Said]]:
        """What comes after number `heard`, with the numbers, once there is something or the time is over."""
        with self._changed:
            while self._said and self._said[0][0] <= heard:
                self._said.popleft()
            self._changed.wait_for(lambda: self._said, wait_s)
            return list(self._said)
