"""The measurement of `fsearch bench kernel`: each shape's contenders, checked, then timed in turns.

Before a contender is timed, what it gives is compared with a float64 computation (of a part of the samples
and heads, if there are many). Then all contenders of a shape run in rounds, one after another, so that a slow
moment of the machine meets all of them alike.

Deliberately not here: what the contenders do (fsearch.train.contender) and what the machine allows
(fsearch.train.machine_limit).
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsearch import kernels
from fsearch.kernels import choice, library
from fsearch.kernels.library import Implementation
from fsearch.kernels.toolchain import find_toolchain
from fsearch.system.memory import kib_in
from fsearch.train import contender, machine_limit
from fsearch.train.contender import Case, Recurrence, Shape, Work, part_of
from fsearch.train.job import Channel
from fsearch.train.machine_limit import Clock, Floor, Pass

QUICK = (Shape(32, 34, 4, 8), Shape(2, 128, 4, 64))
FULL = (
    Shape(32, 34, 4, 8),  # the demo's
    Shape(1, 256, 12, 64),
    Shape(8, 256, 4, 64),
    Shape(2, 512, 12, 64),
    Shape(1, 2048, 12, 64),
    Shape(16, 256, 12, 64),
    Shape(8, 1024, 12, 64),
    Shape(1, 8192, 12, 64),
    Shape(2, 4096, 12, 64),
    Shape(8, 4096, 12, 64),
    Shape(8, 4096, 6, 128),
    Shape(16, 8192, 12, 64),
)
"""In the order of their size: each tells how long the next will take, and how much memory."""

PASSES: tuple[Pass, Pass] = ("forward", "forward_backward")

_LONGEST_PASS_S = 3.0
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 100
_SHORTEST_TURN_S = 0.005
_CHECKED_TOKEN_HEADS = 20_000

_VERSION = re.compile(r"^.*\b\d+\.\d+\.\d+.*$", re.MULTILINE)  # what a compiler is, of all that it says


@dataclass(frozen=True)
class _Ready:
    """A contender after its first runs."""

    work: Work
    errors: dict[str, float]
    peak_memory_bytes: dict[Pass, int | None]
    checkpoint_bytes: int | None
    without_capture: Work | None  # the same without a capture and its gradient


class Measurement:
    """The measurement on one device, for which the compiled kernel is loaded. It reports to `channel`.

    `peers` are the kernels of others, by name, that are measured too.
    """

    def __init__(
        self,
        device: torch.device,
        threads: int,
        quick: bool,
        channel: Channel,
        peers: Mapping[str, Recurrence] | None = None,
    ) -> None:
        self._device, self._threads, self._channel = device, threads, channel
        self._rounds_s = 0.3 if quick else 4.0
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._clock = Clock(device, threads)
        self._compiled: tuple[Implementation, ...] = ("cpu",)
        if device.type == "cuda":
            self._compiled = ("cuda2", "cuda1") if library.has_cuda2() else ("cuda1",)
        self._contenders: dict[str, Callable[[Case], Work]] = {
            name: partial(contender.operator, impl=name) for name in (*self._compiled, "chunked")
        }
        others = dict(peers or {})
        if device.type == "cpu":
            self._contenders |= {"loop": contender.loop, "unbound": contender.unbound_loop}
        elif contender.fla_is_here():
            others["fla"] = contender.fla
        self._contenders |= {name: partial(contender.peer, recurrence=one) for name, one in others.items()}
        self._peers = others.keys()
        self._place: dict[str, Any] = {}
        self._flop_per_s = 0.0
        # Of each contender's last shape: its size, and how long and how much memory a pass took.
        self._last: dict[str, tuple[int, float, int]] = {}

    def run(self, shapes: Sequence[Shape]) -> None:
        """Measure the machine, then every shape."""
        self._say("measuring the machine's limit")
        self._flop_per_s = machine_limit.matmul_flop_per_s(self._device, self._clock, self._dtype)
        copy = machine_limit.copy_bytes_per_s(self._device, self._clock, machine_limit.LARGEST_COPY_BYTES)
        limits = {"copy_bytes_per_s": copy, "matmul_flop_per_s": self._flop_per_s}
        self._channel.send("setting", setting={**self._setting(), "limits": limits})
        gc.disable()  # it would strike now one contender and now another
        for rows in self.rows(shapes, list(self._contenders)):
            self._channel.send("shape", rows=rows)

    def rows(self, shapes: Sequence[Shape], names: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Of every shape a row for each of these contenders."""
        for at, shape in enumerate(shapes):
            self._place = {"shape": asdict(shape), "number": at + 1, "of": len(shapes)}
            yield self._rows(shape, names)
            gc.collect()

    def _setting(self) -> dict[str, Any]:
        gpu = self._device.type == "cuda"
        targets = targets_of(self._device)
        return {
            "machine": {
                "device": str(self._device),
                "gpu": torch.cuda.get_device_name(self._device) if gpu else None,
                "cores": len(os.sched_getaffinity(0)),
                "threads": self._threads,
            },
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "cuda": torch.version.cuda if gpu else None,
                "compilers": _VERSION.findall(find_toolchain(targets).versions),
                "fla-core": _version("fla-core") if "fla" in self._contenders else None,
            },
            "kernel": kernels.backend(self._device.type),
            "dtype": str(self._dtype).removeprefix("torch."),
            "clock": self._clock.name,
        }

    def _rows(self, shape: Shape, names: Sequence[str]) -> list[dict[str, Any]]:
        """One row for each contender: what it did, or why it was left out."""
        left_out = {name: why for name in names if (why := self._unfit(name, shape))}
        ready = self._warm_up(shape, names, left_out)
        works = {name: one.work for name, one in ready.items()}
        works |= {_bare(name): one.without_capture for name, one in ready.items() if one.without_capture}
        seconds = self._rounds(works)
        floors = self._floors(shape) if ready else {}
        sizes = (shape.B, shape.T, shape.H, shape.N)
        kernel = library.chosen(self._device, self._dtype, sizes, "sigmoid")
        rows = []
        for name in names:
            row: dict[str, Any] = {**asdict(shape), "contender": name, "left_out": left_out.get(name)}
            rows.append(row)
            if name not in ready:
                continue
            one = ready[name]
            limit = contender.WRONG_ABOVE[self._dtype]
            row["errors"] = one.errors
            row["wrong"] = [of for of, error in one.errors.items() if not error <= limit]
            row["checkpoint_bytes"] = one.checkpoint_bytes
            for of in PASSES:
                best = min(seconds[name, of])
                ours = min(seconds[kernel, of]) if kernel in ready else None
                bare = min(seconds[_bare(name), of]) if one.without_capture else None
                row[of] = {
                    "best_s": best,
                    "median_s": statistics.median(seconds[name, of]),
                    "timings": len(seconds[name, of]),
                    "ratio_to_kernel": best / ours if ours else None,
                    "capture_ratio": best / bare if bare else None,
                    "floor_by_bytes_s": floors[of].by_bytes_s,
                    "floor_by_flops_s": floors[of].by_flops_s,
                    "share_of_floor": floors[of].seconds / best,
                    "peak_memory_bytes": one.peak_memory_bytes[of],
                }
            self._last[name] = (shape.size, best, one.peak_memory_bytes["forward_backward"] or 0)
        return rows

    def _unfit(self, name: str, shape: Shape) -> str | None:
        """Why a contender is not run: it cannot, or not in reasonable time and memory, by its last shape."""
        if name == "cuda2" and not choice.v2_takes("bfloat16", shape.N):
            return f"it takes no heads of {shape.N}"
        if name not in self._last:
            return None
        size, seconds, memory = self._last[name]
        times = shape.size / size
        if seconds * times > _LONGEST_PASS_S:
            return f"about {seconds * times:.0f} s a pass, over the limit of {_LONGEST_PASS_S:.0f} s"
        if memory * times > _free_memory_bytes(self._device) / 2:
            return f"about {memory * times / 2**30:.0f} GiB of memory, over half of what is free"
        return None

    def _warm_up(self, shape: Shape, wanted: Sequence[str], left_out: dict[str, str]) -> dict[str, _Ready]:
        """Run each contender a first time, check what it gives, and measure its memory.

        Adds to `left_out` who finds too little memory, and a peer that fails.
        """
        ready: dict[str, _Ready] = {}
        names = [name for name in wanted if name not in left_out]
        if not names:
            return ready
        self._say("computing it in float64")
        samples = max(1, min(shape.B, _CHECKED_TOKEN_HEADS // shape.T))
        heads = max(1, min(shape.H, _CHECKED_TOKEN_HEADS // (samples * shape.T)))
        try:
            case = contender.random_case(shape, self._device, self._dtype)
            expected = contender.operator(case.part(samples, heads, torch.float64), "chunked").results()
        except torch.OutOfMemoryError:
            left_out |= dict.fromkeys(names, "out of memory")
            return ready
        for name in names:
            self._say(f"warming up {name}")
            try:
                work = self._contenders[name](case)
                results = work.results()
                errors = {
                    of: contender.relative_error(part_of(of, x, samples, heads), expected[of])
                    for of, x in results.items()
                }
                del results
                memory: dict[Pass, int | None] = {
                    "forward": _peak_memory_bytes(self._device, work.forward),
                    "forward_backward": _peak_memory_bytes(self._device, work.both),
                }
            except torch.OutOfMemoryError:
                left_out[name] = "out of memory"
                continue
            except Exception as error:
                if name not in self._peers:
                    raise
                left_out[name] = f"it failed: {type(error).__name__}: {error}"
                continue
            ours = next((impl for impl in self._compiled if impl == name), None)
            saved = _checkpoint_bytes(work) if ours else None
            bare = contender.operator(case, ours, capture=False) if ours else None
            ready[name] = _Ready(work, errors, memory, saved, bare)
        return ready

    def _rounds(self, works: dict[str, Work]) -> dict[tuple[str, Pass], list[float]]:
        """Seconds of every pass of every contender, in turns."""
        seconds: dict[tuple[str, Pass], list[float]] = {(name, of): [] for name in works for of in PASSES}
        began, done = time.monotonic(), 0
        while done < _FEWEST_ROUNDS or (done < _MOST_ROUNDS and time.monotonic() - began < self._rounds_s):
            done += 1
            for name, work in works.items():
                self._say(f"round {done}, {name}")
                seconds[name, "forward"] += self._turn(work.forward)
                seconds[name, "forward_backward"] += self._turn(work.both)
        return seconds

    def _turn(self, work: Callable[[], object]) -> list[float]:
        """Timings of one turn: several of a short pass, as the first one finds cold caches."""
        timings = [self._clock.seconds(work)]
        while sum(timings) < _SHORTEST_TURN_S:
            timings.append(self._clock.seconds(work))
        return timings

    def _floors(self, shape: Shape) -> dict[Pass, Floor]:
        self._say("measuring the machine's limit")
        size = self._dtype.itemsize
        return {
            of: machine_limit.floor_of(shape, of, self._device, self._clock, size, self._flop_per_s)
            for of in PASSES
        }

    def _say(self, doing: str) -> None:
        self._channel.send("progress", doing=doing, **self._place)


def targets_of(device: torch.device) -> tuple[str, ...]:
    """The nvcc targets of the library that a training on this device uses."""
    return (library.architecture(device.index or 0),) if device.type == "cuda" else ()


def _bare(name: str) -> str:
    """What a contender is called among the timings when it captures nothing."""
    return f"{name}, no capture"


def _checkpoint_bytes(work: Work) -> int:
    """What a forward pass saves for the backward one, beside its inputs."""
    inputs = {x.data_ptr() for x in work.leaves}
    saved: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.is_floating_point() and x.data_ptr() not in inputs:
            saved[x.data_ptr()] = x.nbytes
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        work.call(work.leaves)
    return sum(saved.values())


def _peak_memory_bytes(device: torch.device, work: Callable[[], object]) -> int | None:
    """The most memory `work` takes beside what was there before; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # memory that is kept for later would be taken again unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    except OSError:
        return None
    before = _status_bytes("VmRSS")
    work()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    return kib_in(Path("/proc/self/status"), field) * 1024


def _free_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
    return kib_in(Path("/proc/meminfo"), "MemAvailable") * 1024


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
