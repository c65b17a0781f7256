"""Numbered fault points: the places at which a test has a process killed, one after the other.

With FSEARCH_FAULT_POINT=n in its environment a process kills itself (SIGKILL) at the n-th point that it
reaches. It alone: the variable is taken out of its environment, so what it starts lives on.

The points lie around whatever outlives a process: commits, files put in their place and removed, processes
started and taken leave of. Without the variable a point is one comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "FSEARCH_FAULT_POINT"

_left = 0  # points until the end; 0: none


def arm(number: int) -> None:
    """Die at the `number`-th point from now; 0 for never."""
    global _left
    _left = number


def point(name: str) -> None:
    """A place where a kill is worth a look. The one who dies here says `name` on stderr."""
    global _left
    if _left:
        _left -= 1
        if not _left:
            os.write(2, f"killed at the fault point: {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


arm(int(os.environ.pop(VARIABLE, "0")))
