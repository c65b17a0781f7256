"""What a job takes of the machine's memory, from its start on, and the limit on that.

The limit holds for the private memory of the process (RLIMIT_DATA): where it is reached, an allocation fails
and is an exception in this process, and neither it nor another one is killed. Nothing that decides a number
depends on it.

Deliberately not here: how large a limit is, and what follows from running out.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
from pathlib import Path

import torch

from fsearch.system.memory import kib_in

_STATUS = Path("/proc/self/status")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_MAPPED_FROM = 128 << 10, 32 << 20
_REFUSED = re.compile(r"DefaultCPUAllocator: (can't|not enough)|bad_alloc|CUDA out of memory")
_ASKED = re.compile(r"tried to allocate (\d+) bytes")


class OutOfMemory(Exception):
    """An attempt that has no more memory to take; the message says which sizes did not fit."""


class Memory:
    """The memory of this process since the object was made."""

    def __init__(self) -> None:
        self._before_kib = kib_in(_STATUS, "RssAnon")
        self._limit_mib: int | None = None

    def limit(self, mib: int) -> None:
        """Let no more than that be taken, in MiB, by this process and its threads as they are now.

        The stacks of threads that run already are reserved, not used, and do not count. An allocation of more
        than about a thousandth of the limit is mapped on its own, so that it is given back when it is freed:
        what lies in pieces between others would else take as much again, and another amount in every step.
        """
        with contextlib.suppress(AttributeError):  # another C library than glibc
            mallopt = ctypes.CDLL(None).mallopt
            least, most = _MAPPED_FROM
            mapped = max(least, min(most, mib << 10))
            mallopt(_M_MMAP_THRESHOLD, mapped)
            mallopt(_M_TRIM_THRESHOLD, 2 * mapped)
        self._limit_mib = mib
        taken_kib = kib_in(_STATUS, "RssAnon") - self._before_kib
        self._set((kib_in(_STATUS, "VmData") - taken_kib + (mib << 10)) << 10)

    def unlimited(self) -> None:
        """Take the limit away: saying what happened takes memory too."""
        self._set(resource.getrlimit(resource.RLIMIT_DATA)[1])

    def peak_mib(self) -> float:
        """The most private memory that was in use at one moment, beyond what was at the start.

        Pages of files, such as libraries, are not private and do not count.
        """
        return (kib_in(_STATUS, "VmHWM") - kib_in(_STATUS, "RssFile") - self._before_kib) / 1024

    def told(self, error: BaseException) -> str:
        """The sizes behind an allocation that failed, as words."""
        asked = _ASKED.search(str(error))
        more = f" when {int(asked[1]) / 2**20:.1f} MiB more were asked for" if asked else ""
        limit = "" if self._limit_mib is None else f" of {self._limit_mib} MiB that it may take"
        return f"{self.peak_mib():.0f} MiB{limit} were taken{more}"

    @staticmethod
    def _set(most_bytes: int) -> None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY and (most_bytes == resource.RLIM_INFINITY or most_bytes > hard):
            most_bytes = hard
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


def peak_resident_mib() -> float:
    """The most memory this process has had resident, shared and mapped pages too, in MiB."""
    return kib_in(_STATUS, "VmHWM") / 1024


def is_refused_allocation(error: BaseException) -> bool:
    """Whether an exception says that there was no memory to be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_REFUSED.search(str(error)))
