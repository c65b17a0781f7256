"""The keys of a terminal while a screen is live, and the signals that end it: one key at a time, unechoed.

The terminal's settings are put back on the way out, whatever happened inside. Where there are no keys (the
input is a file, the output a terminal) only signals are heard.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMES = {
    b"\x1b": "escape",
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
}


class Keys:
    """A context manager; `ending` and `suspending` say which signals came meanwhile."""

    def __init__(self) -> None:
        self.ending: signal.Signals | None = None
        self.suspending = False
        self._input = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None

    def __enter__(self) -> Keys:
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {
            **dict.fromkeys(_ENDING, self._end),
            signal.SIGTSTP: self._suspend,
            signal.SIGWINCH: lambda number, frame: None,  # it only wakes
        }
        self._handlers_before = {number: signal.signal(number, one) for number, one in handlers.items()}
        if self._input is not None:
            self._settings = termios.tcgetattr(self._input)
            tty.setcbreak(self._input, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._input is not None:
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcflush(self._input, termios.TCIFLUSH)
                termios.tcsetattr(self._input, termios.TCSANOW, self._settings)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._woken)
        os.close(self._wake)

    def wait(self, seconds: float) -> list[str]:
        """The keys that are pressed within so many seconds; returns at the first, and at a signal."""
        watched = [self._woken, *([] if self._input is None else [self._input])]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._input not in ready or self._input is None:
            return []
        try:
            typed = os.read(self._input, 1024)
        except OSError:
            typed = b""
        if not typed:  # the terminal is gone
            self.ending = signal.SIGHUP
        return names(typed)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ending = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self.suspending = True


def names(typed: bytes) -> list[str]:
    """The keys in what a terminal has sent: letters as they are, "up", "down", "escape"; no others."""
    found = []
    while typed:
        known = next((code for code in sorted(_NAMES, key=len, reverse=True) if typed.startswith(code)), b"")
        if known == b"\x1b" and typed[1:2] in (b"[", b"O"):  # a key that means nothing here
            end = next((at for at in range(2, len(typed)) if 0x40 <= typed[at] <= 0x7E), len(typed) - 1)
            typed = typed[end + 1 :]
            continue
        if known:
            found.append(_NAMES[known])
        elif 0x20 < typed[0] < 0x7F:
            found.append(chr(typed[0]))
        typed = typed[len(known) or 1 :]
    return found
