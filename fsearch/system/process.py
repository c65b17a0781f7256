"""Life and death of processes on Linux: children that die with their parent, identity beyond the pid, groups.

Deliberately not here: starting, waiting for or classifying processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_START_TIME_FIELD = 19  # field 22 of /proc/PID/stat, counted from the first one after the command's name


def die_with_parent(parent_pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send `signal_number` to this process when the thread that made it ends.

    Call it first thing in the child, from its main thread; the setting is cleared by fork. If `parent_pid` is
    already gone the signal would never come, so this process then exits at once, with status 1.
    Raises OSError if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if os.getppid() != parent_pid:
        os._exit(1)


def start_time(pid: int) -> float | None:
    """When process `pid` was started, in seconds since the machine's boot; None if there is no such process.

    A pid can be used again, a pid together with its start time cannot.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 1 :].split()
    return int(fields[_START_TIME_FIELD]) / os.sysconf("SC_CLK_TCK")


def kill_group(pgid: int) -> None:
    """Kill every process of the group `pgid`, if there is one. Raises ValueError for our own group."""
    if pgid <= 1 or pgid == os.getpgrp():
        raise ValueError(f"refusing to kill the process group {pgid}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pgid, signal.SIGKILL)
