"""Life and death of processes on Linux: children that die with their parent, identity beyond the pid, groups.

Deliberately not here: starting, waiting for or classifying processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
# Fields 3, 4, 6, 14, 15, 22 and 24 of /proc/PID/stat, counted from the first one after the command's name.
_STATE = 0
_PARENT = 1
_SESSION = 3
_USER_TIME = 11
_SYSTEM_TIME = 12
_START_TIME = 19
_RESIDENT = 21


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
    fields = _stat(pid)
    return None if fields is None else _start_time(fields)


def lives(pid: int, started: float | None) -> bool:
    """Whether the process that was started then still runs. A zombie does not: nobody may ever reap it."""
    fields = _stat(pid)
    return fields is not None and fields[_STATE] not in "ZX" and _start_time(fields) == started


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has taken so far."""

    cpus: float  # busy on average since it was started; 1.0 is one of them all the time
    memory_mib: float  # resident


def usage(pid: int, started: float | None) -> Usage | None:
    """What the process that was started then has taken; None if it does not run here."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in "ZX" or _start_time(fields) != started:
        return None
    ticks = int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])
    age_s = max(time.clock_gettime(time.CLOCK_BOOTTIME) - _start_time(fields), 0.01)
    busy_s = ticks / os.sysconf("SC_CLK_TCK")
    return Usage(busy_s / age_s, int(fields[_RESIDENT]) * os.sysconf("SC_PAGE_SIZE") / 2**20)


def kill_group(pgid: int) -> None:
    """Kill every process of the group `pgid` and of the session it leads, as far as there are any.

    The session counts because some programs (ninja) give each of their children a group of its own.
    Raises ValueError for our own group.
    """
    if pgid <= 1 or pgid == os.getpgrp():
        raise ValueError(f"refusing to kill the process group {pgid}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pgid, signal.SIGKILL)
    _kill_session(pgid)


def kill_tree(pid: int) -> None:
    """Kill process `pid`, its children, theirs and so on, whatever groups and sessions they are in.

    Each is stopped before its children are looked up, so that it starts none unseen.
    """
    tree, todo = [], [pid]
    while todo:
        parent = todo.pop()
        tree.append(parent)
        with contextlib.suppress(ProcessLookupError):
            os.kill(parent, signal.SIGSTOP)
        everyone = map(int, filter(str.isdigit, os.listdir("/proc")))
        todo += [one for one in everyone if (fields := _stat(one)) and int(fields[_PARENT]) == parent]
    for one in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def end_own_session() -> None:
    """Kill every process of the session that this process leads, this one last."""
    _kill_session(os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_session(session: int) -> None:
    """Kill the processes of a session, but not ourselves, until no new one turns up."""
    killed = {os.getpid()}
    while True:
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in killed]
        members = [pid for pid in left if (fields := _stat(pid)) and int(fields[_SESSION]) == session]
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(members)


def _start_time(fields: list[str]) -> float:
    return int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 1 :].split()
