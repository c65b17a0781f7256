"""What a job takes of the memory that it trains in, from its start on, and the limit on that.

On the CPU the limit holds for the private memory of the process (RLIMIT_DATA), on a GPU for what torch's
allocator holds there. Where it is reached, an allocation fails and is an exception in this process, and
neither it nor another one is killed. Nothing that decides a number depends on it.

Deliberately not here: how large a limit is, and what follows from running out.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import torch

from fsearch.system.memory import kib_in

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs"), b"5"  # VmHWM begins anew; see proc(5)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_MAPPED_FROM = 16 << 10, 32 << 20
_STARTS_THREADS = 1 << 17  # numbers enough that an operation on them is shared between threads
_REFUSED = re.compile(
    r"DefaultCPUAllocator: (can't|not enough)|bad_alloc|CUDA out of memory|CUDA error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED"
    r"|^\[enforce fail a$"  # torch had no memory for the rest of its message: 15 characters take none
)
_ASKED = re.compile(r"tried to allocate (\d+) bytes")
_ASKED_OF_GPU = re.compile(r"Tried to allocate ([\d.]+ [KMG]iB)")


class OutOfMemory(Exception):
    """An attempt that has no more memory to take; the message says which sizes did not fit."""


def memory_of(device: str) -> Memory:
    """The memory that a job on "cpu" or "cuda" trains in."""
    return GpuMemory() if device.startswith("cuda") else Memory()


class Memory:
    """The memory of this process since the object was made."""

    def __init__(self) -> None:
        self._before_kib = self._peak_kib = kib_in(_STATUS, "RssAnon")
        self._files_kib = kib_in(_STATUS, "RssFile")  # at the last mark
        self._limit_mib: int | None = None

    def limit(self, mib: int) -> None:
        """Let no more than that be taken, in MiB, by this process and its threads, which are started here.

        The stacks of threads that run already are reserved, not used, and do not count. An allocation of more
        than about a thousandth of the limit is mapped on its own, so that it is given back when it is freed:
        what lies in pieces between others would else take as much again, and another amount in every step and
        in every run, because what is allocated between them (a message after so much time) is never the same.
        """
        with contextlib.suppress(AttributeError):  # another C library than glibc
            mallopt = ctypes.CDLL(None).mallopt
            least, most = _MAPPED_FROM
            mapped = max(least, min(most, mib << 10))
            mallopt(_M_MMAP_THRESHOLD, mapped)
            mallopt(_M_TRIM_THRESHOLD, 2 * mapped)
        torch.zeros(_STARTS_THREADS).add_(1)
        self._limit_mib = mib
        taken_kib = kib_in(_STATUS, "RssAnon") - self._before_kib
        self._set((kib_in(_STATUS, "VmData") - taken_kib + (mib << 10)) << 10)

    def unlimited(self) -> None:
        """Take the limit away: saying what happened takes memory too."""
        self._set(resource.getrlimit(resource.RLIMIT_DATA)[1])

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Without the limit for a while: what is started meanwhile does not inherit it."""
        limit = resource.getrlimit(resource.RLIMIT_DATA)
        Memory.unlimited(self)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, limit)

    def mark(self) -> None:
        """A piece of work ends here and another begins.

        The kernel keeps the peak of all pages together. Those of files, such as libraries, are not private;
        they come when they are first used, and go when the machine wants them for something else. Taken
        off is therefore what there was of them in the same piece of work, at its beginning or its end.
        """
        files_kib = kib_in(_STATUS, "RssFile")
        peak_kib = kib_in(_STATUS, "VmHWM") - max(files_kib, self._files_kib)
        self._peak_kib, self._files_kib = max(self._peak_kib, peak_kib), files_kib
        with contextlib.suppress(OSError):  # a system that does not let us: one peak for all pieces
            path, word = _RESET
            path.write_bytes(word)

    def peak_mib(self) -> float:
        """The most private memory that was in use at one moment, beyond what was at the start."""
        self.mark()
        return (self._peak_kib - self._before_kib) / 1024

    def told(self, error: BaseException) -> str:
        """The sizes behind an allocation that failed, as words."""
        more = self._asked(str(error))
        more = f" when {more} more were asked for" if more else ""
        limit = "" if self._limit_mib is None else f" of {self._limit_mib} MiB that it may take"
        return f"{self.peak_mib():.0f} MiB{limit} were taken{more}"

    def _asked(self, message: str) -> str:
        asked = _ASKED.search(message)
        return f"{int(asked[1]) / 2**20:.1f} MiB" if asked else ""

    @staticmethod
    def _set(most_bytes: int) -> None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY and (most_bytes == resource.RLIM_INFINITY or most_bytes > hard):
            most_bytes = hard
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


class GpuMemory(Memory):
    """The memory of the worker's only GPU, as far as torch's allocator holds it.

    Counted is what it has reserved, because that is what the limit is compared with and what is lost to
    others; `job.set_environment` has it grow in pages, so that pieces between tensors do not add to it. The
    context of CUDA and the code of the kernels are not counted: the daemon leaves room for them.
    """

    def limit(self, mib: int) -> None:
        """Let no more than that be reserved, in MiB. The GPU's own size is a limit in any case."""
        self._limit_mib = mib
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, mib * 2**20 / total), 0)

    def unlimited(self) -> None:
        """Nothing to do: saying what happened takes none of a GPU's memory."""

    def mark(self) -> None:
        """Nothing to do: torch's allocator counts what is its own."""

    def peak_mib(self) -> float:
        """The most memory that was reserved at one moment."""
        return torch.cuda.max_memory_reserved(0) / 2**20

    def _asked(self, message: str) -> str:
        asked = _ASKED_OF_GPU.search(message)
        return asked[1] if asked else ""


def peak_resident_mib() -> float:
    """The most memory this process has had resident, shared and mapped pages too, in MiB."""
    return kib_in(_STATUS, "VmHWM") / 1024


def is_refused_allocation(error: BaseException) -> bool:
    """Whether an exception says that there was no memory to be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_REFUSED.search(str(error)))
