"""What the machine itself allows: how fast it copies and multiplies, and the least time a pass could take.

The floor of a pass is the larger of two times. By bytes: what must be read and written once, at the measured
rate of copying an array of that size. By flops: the fewest operations known for the pass, at the measured
rate of a large matrix product.

Deliberately not here: the kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from fsearch.train.contender import Shape

Pass = Literal["forward", "forward_backward"]

_STATE_ITEM_BYTES = 4  # states are float32 beside bf16 and float32 alike
_CHUNK = 16
LARGEST_COPY_BYTES = 1 << 28
_SHORTEST_TIMING_S = 0.2


class Clock:
    """Times calls: by CUDA events on a GPU, in process CPU time at one CPU thread, else by the wall clock.

    At one thread CPU time is wall time less what other processes took from it. With several it is their sum,
    which says nothing about speed.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._cuda = device.type == "cuda"
        self._now = time.process_time if threads == 1 else time.perf_counter
        self.name = "CUDA events" if self._cuda else "process CPU time" if threads == 1 else "wall clock"

    def seconds(self, work: Callable[[], object]) -> float:
        if self._cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            begin.record()
            result = work()
            end.record()
            torch.cuda.synchronize()
            del result
            return float(begin.elapsed_time(end)) / 1e3
        began = self._now()
        result = work()
        seconds = self._now() - began
        del result
        return seconds

    def best_s(self, work: Callable[[], object]) -> float:
        """The shortest of several timings, after one that does not count."""
        self.seconds(work)
        timings: list[float] = []
        while len(timings) < 3 or (sum(timings) < _SHORTEST_TIMING_S and len(timings) < 1000):
            timings.append(self.seconds(work))
        return min(timings)


def copy_bytes_per_s(device: torch.device, clock: Clock, num_bytes: int) -> float:
    """Bytes read and written each second by a copy that moves about `num_bytes`, at most LARGEST_COPY_BYTES.

    A small pass lives in caches, and so does a small copy: its limit is measured at its own size.
    """
    items = max(1024, min(num_bytes, LARGEST_COPY_BYTES) // 8)
    source = torch.rand(items, device=device)  # not zeros, whose pages may not exist until they are written
    target = torch.ones_like(source)
    return 8 * items / clock.best_s(lambda: target.copy_(source))


def matmul_flop_per_s(device: torch.device, clock: Clock, dtype: torch.dtype) -> float:
    """Floating-point operations each second of a large matrix product, a multiply-add being two."""
    n = 8192 if device.type == "cuda" else 1024
    x = torch.rand(n, n, device=device).to(dtype)
    y = torch.empty_like(x)
    return 2 * n**3 / clock.best_s(lambda: torch.mm(x, x, out=y))


def least_bytes(shape: Shape, of: Pass, item_bytes: int) -> int:
    """Bytes of inputs, outputs and their gradients, each moved once; nothing saved in between.

    Forward: six inputs and y, the initial and the captured state. Backward: the six inputs again, dy and six
    gradients, and the gradients of both states.
    """
    values, states = (7, 2) if of == "forward" else (7 + 13, 4)
    per_state = _STATE_ITEM_BYTES * shape.N**2
    return values * shape.token_heads * shape.N * item_bytes + states * shape.B * shape.H * per_state


def least_flops(shape: Shape, of: Pass, device_type: str) -> int:
    """Operations of the pass in the form that suits the device.

    On a CPU vector units do the recurrence token by token as fast as a matrix product, and that form has the
    fewest: 9 N^2 for a token and head forward, 26 N^2 backward, where a replay of the forward pass is counted
    because saving every state instead would move more. On a GPU the measured rate belongs to matrix units,
    which can only do the chunked form: at its cheapest, L = 16, 8 N^2 + 16 L N forward and 18 N^2 + 44 L N
    backward.
    """
    n = shape.N
    if device_type == "cuda":
        forward, backward = 8 * n**2 + 16 * _CHUNK * n, 18 * n**2 + 44 * _CHUNK * n
    else:
        forward, backward = 9 * n**2, 26 * n**2
    return shape.token_heads * (forward if of == "forward" else forward + backward)


@dataclass(frozen=True)
class Floor:
    """The least time of a pass on this machine, by each of its two limits."""

    by_bytes_s: float
    by_flops_s: float

    @property
    def seconds(self) -> float:
        return max(self.by_bytes_s, self.by_flops_s)


def floor_of(
    shape: Shape, of: Pass, device: torch.device, clock: Clock, item_bytes: int, flop_per_s: float
) -> Floor:
    """Measure the copy of this pass's size, and put both limits together."""
    moved = least_bytes(shape, of, item_bytes)
    rate = copy_bytes_per_s(device, clock, moved)
    return Floor(moved / rate, least_flops(shape, of, device.type) / flop_per_s)
