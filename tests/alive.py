"""Which processes still live, for the tests that kill some."""

from __future__ import annotations

import time


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int], limit_s: float = 2.0) -> list[int]:
    """The processes among `pids` that still run after at most `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        left = [pid for pid in pids if runs(pid)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)
