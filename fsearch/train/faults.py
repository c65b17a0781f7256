"""Failures on demand, so that tests can see what follows from them: the real errors, in a real worker.

    FSEARCH_TEST_FAULT='[{"at": "step", "step": 3, "kind": "oom", "job": {"try": 1}}]'

`at` is a point of an attempt: load, evaluate, finish (where that phase begins), step (before a training step)
or update (before its optimizer step). `step` is the number of the step, from 1, or how many are done; without
it the fault strikes the first time. `job` is the part of the job that must be so, all the way down. A fault
strikes once a process. Nothing else reads the variable, and without it nothing here does anything.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fsearch.system import messages
from fsearch.train.job import Channel, Job

VARIABLE = "FSEARCH_TEST_FAULT"

_OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which "
    "1.20 GiB is free. Including non-PyTorch memory, this process has 138.60 GiB memory in use."
)
_ASSERT = "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA` to enable assertions."
_ILLEGAL = "CUDA error: an illegal memory access was encountered"


class Faults:
    """The faults that one attempt is to meet."""

    def __init__(self, job: Job, channel: Channel, model: Callable[[], torch.nn.Module]) -> None:
        asked: list[dict[str, Any]] = json.loads(os.environ.get(VARIABLE, "[]"))
        self._left = [fault for fault in asked if _within(fault.get("job", {}), job)]
        self._channel, self._model = channel, model

    def strike(self, at: str, step: int) -> None:
        """Have what is asked for at this point happen."""
        for fault in list(self._left):
            if fault["at"] == at and fault.get("step", step) == step:
                self._left.remove(fault)
                getattr(self, f"_{fault['kind']}")()

    def _oom(self) -> NoReturn:
        raise torch.OutOfMemoryError(_OUT_OF_MEMORY)

    def _memory_error(self) -> NoReturn:
        raise MemoryError

    def _device_assert(self) -> NoReturn:
        raise RuntimeError(_ASSERT)

    def _poisoned(self) -> None:
        """As after an illegal access: whatever this process asks of torch from now on fails."""
        _Poisoned().__enter__()  # type: ignore[no-untyped-call]
        torch.zeros(1)

    def _disk_full(self) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/full/disk")

    def _exception(self) -> NoReturn:
        raise ValueError("a mistake in the code")

    def _nan(self) -> None:
        with torch.no_grad():
            next(self._model().parameters()).fill_(float("nan"))

    def _segfault(self) -> None:
        ctypes.string_at(0)

    def _abort(self) -> NoReturn:
        os.abort()

    def _exit(self) -> NoReturn:
        os._exit(0)

    def _torn(self) -> NoReturn:
        frame = messages.encode({"type": "result", "outcome": "completed", "reason": "", "score": 1.0})
        os.write(self._channel.fd, frame[:-1])
        os._exit(0)

    def _hang(self) -> NoReturn:
        """As in a kernel that never returns: no other thread of this process gets a turn."""
        while True:
            ctypes.PyDLL(None).sleep(3600)

    def _killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _flood(self) -> None:
        """A gigabyte of anything but lines, and no failure."""
        sys.stderr.flush()
        piece = bytes(byte for byte in range(256) if byte != ord("\n")) * 4096 + b"\x1b[2J\x1b]0;title\x07"
        for _ in range((1 << 30) // len(piece)):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(2, rest) :]


class _Poisoned(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise RuntimeError(_ILLEGAL)


def _within(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is found."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and _within(value, found[key]) for key, value in wanted.items()
        )
    return bool(wanted == found)
