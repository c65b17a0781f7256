"""The measurement of `fsearch bench step`: optimizer steps, on random tokens, of one contender or several.

Several take turns, step by step, so that what else the machine does meets all of them; their weights are the
same, so that a large model is there once. A step of others that fails is left out, and its row says why. Peak
memory is that of the whole process, on a GPU what torch reserved there, so a process measures that of one
contender alone.

Deliberately not here: the contenders, the kernel's build, and everything on the screen.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from fsearch import kernels
from fsearch.train import fla_step, model_flop
from fsearch.train.backend import set_up_torch
from fsearch.train.batches import Batch
from fsearch.train.job import Channel, Job
from fsearch.train.machine_limit import Clock
from fsearch.train.memory import peak_resident_mib
from fsearch.train.step_contender import (
    OTHERS,
    SHAPES,
    Contender,
    base_network,
    contender,
    parts_of,
    random_batch,
)

T = TypeVar("T")

_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 200
_ROUNDS_S, _PROFILED_S = 1.0, 0.05
_STEPS_TO_THE_PEAK = 2  # the second one finds what the optimizer remembers

_OPERATORS = {
    "aten::mm": "matrix_products",
    "aten::addmm": "matrix_products",
    "aten::bmm": "matrix_products",
    "aten::copy_": "copies_and_casts",
    "aten::_fused_adamw_": "adamw",
}
_KERNEL = "fsearch::wkv7"


@dataclass(frozen=True)
class _Entry:
    """One contender on one batch: what a row says of it first, and the operations of a step."""

    case: dict[str, Any]
    batch: Batch
    flop: int


class StepMeasurement:
    """Steps of a job's "cases" [{"contender", "batch", "tokens"}] in its "precision", on its "shape"."""

    def __init__(self, job: Job, device: torch.device, channel: Channel) -> None:
        set_up_torch(job["threads"])
        shape, self._precision = SHAPES[job["shape"]], job["precision"]
        self._device, self._channel = device, channel
        self._clock = Clock(device, job["threads"])
        self._say("drawing initial values")
        self._base = base_network(shape, self._precision, device)
        model = self._base.model
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        self._peak_flop_per_s = model_flop.stated_peak(gpu, self._precision)
        self._entries = []
        for asked in job["cases"]:
            sizes = {name: asked[name] or getattr(shape, name) for name in ("batch", "tokens")}
            case = {"contender": asked["contender"], **sizes}
            batch = random_batch(**sizes, vocab_size=shape.vocab_size)
            flop = model_flop.of_step(model, batch.tokens.size, len(batch.targets))
            self._entries.append(_Entry({**case, "precision": self._precision}, batch, flop))
        first = self._entries[0]
        channel.send(
            "setting",
            setting={
                "shape": {**asdict(shape), "batch": first.case["batch"], "tokens": first.case["tokens"]},
                "targets": len(first.batch.targets),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "gpu": gpu,
                "threads": job["threads"],
                "kernel": kernels.backend(device.type, model.compute_dtype, model.head_size),
                "torch": torch.__version__,
                "fla": self._fla_version(),
                "clock": self._clock.name,
            },
        )

    def peak(self) -> None:
        """Make a few steps of the only case and send a `peak`."""
        (entry,) = self._entries
        only = self._contender(entry)
        for _ in range(_STEPS_TO_THE_PEAK):
            self._say(f"{entry.case['contender']}: memory")
            _step(only)
        self._channel.send("peak", peak_memory_mib=self._peak_memory_mib())

    def run(self) -> None:
        """Make steps of every case in turn and send a `row` for each; operators with the first alone."""
        ready: dict[int, Contender] = {}
        left_out: dict[int, str] = {}
        for number, entry in enumerate(self._entries):
            try:
                ready[number] = self._after_first_step(entry)
            except Exception as error:
                if entry.case["contender"] not in OTHERS:
                    raise
                left_out[number] = _why(error)
        rounds = self._rounds(ready, self._parts_of_step)
        totals = [{number: sum(parts.values()) for number, parts in one.items()} for one in rounds]
        if self._device.type == "cuda":  # which works on one part while the next is being launched
            totals = self._rounds(ready, self._whole_step)
        for number, entry in enumerate(self._entries):
            if number in left_out:
                self._channel.send("row", row={**entry.case, "left_out": left_out[number]})
                continue
            steps = [one[number] for one in totals]
            parts = [one[number] for one in rounds]
            spent = sum(sum(step.values()) for step in parts)
            median = statistics.median(steps)
            self._channel.send(
                "row",
                row={
                    **entry.case,
                    "left_out": None,
                    "steps": len(steps),
                    "step_s": {"best": min(steps), "median": median},
                    "ratio": statistics.median(one[number] / one[0] for one in totals),
                    "tokens_per_s": entry.batch.tokens.size / median,
                    "flop": entry.flop,
                    "flop_per_s": entry.flop / median,
                    "stated_peak_flop_per_s": self._peak_flop_per_s,
                    "mfu": self._peak_flop_per_s and entry.flop / median / self._peak_flop_per_s,
                    "parts": {part: sum(step[part] for step in parts) / spent for part in parts[0]},
                    "operators": self._operators(ready[0], median) if number == 0 else None,
                    "loss": ready[number].loss.item(),
                },
            )

    def _contender(self, entry: _Entry) -> Contender:
        return contender(entry.case["contender"], self._base, self._precision, entry.batch)

    def _after_first_step(self, entry: _Entry) -> Contender:
        """A contender that has what all further steps use."""
        self._say(f"{entry.case['contender']}: first step")
        made = self._contender(entry)
        _step(made)
        return made

    def _fla_version(self) -> str | None:
        asked = any(entry.case["contender"] == "fla" for entry in self._entries)
        return fla_step.version() if asked else None

    def _rounds(self, ready: dict[int, Contender], measure: Callable[[Contender], T]) -> list[dict[int, T]]:
        """What `measure` gives of every contender, round after round, for about a second each.

        Each round has an order of its own: what one leaves in the caches is not always met by the same one.
        """
        found: list[dict[int, T]] = []
        began, count = time.monotonic(), len(ready)
        while len(found) < _FEWEST_ROUNDS or (
            len(found) < _MOST_ROUNDS and time.monotonic() - began < count * _ROUNDS_S
        ):
            self._say(f"round {len(found) + 1}")
            order = random.Random(len(found)).sample(sorted(ready), count)
            found.append({number: measure(ready[number]) for number in order})
        return found

    def _peak_memory_mib(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device) / 2**20
        return peak_resident_mib()

    def _whole_step(self, one: Contender) -> float:
        """Seconds of a contender's next step, with no wait for the device inside it."""
        return self._clock.seconds(lambda: _step(one))

    def _parts_of_step(self, one: Contender) -> dict[str, float]:
        """Seconds of each part of a contender's next step."""
        return {name: self._clock.seconds(part) for name, part in parts_of(one).items()}

    def _operators(self, one: Contender, step_s: float) -> dict[str, float]:
        """Shares of some more steps by kind of operator. The rest is Python's and the profiler's too."""
        steps = max(1, round(_PROFILED_S / step_s))
        self._say("more steps in the profiler")
        on_gpu = self._device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as profiled:
            began = time.perf_counter()
            for _ in range(steps):
                _step(one)
            if on_gpu:
                torch.cuda.synchronize(self._device)
            seconds = time.perf_counter() - began
        own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        taken = ((event.key, getattr(event, own) / 1e6) for event in profiled.key_averages())
        return shares_by_operator(taken, seconds)

    def _say(self, doing: str) -> None:
        self._channel.send("progress", doing=f"{self._precision}: {doing}")


def _step(one: Contender) -> None:
    for part in parts_of(one).values():
        part()


def _why(error: Exception) -> str:
    """Why a step of others is left out."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    said = str(error).strip().split("\n")[0]
    return f"it failed: {type(error).__name__}: {said}"


def shares_by_operator(taken: Iterable[tuple[str, float]], seconds: float) -> dict[str, float]:
    """What share of `seconds` each kind of operator took, from (name of an operator, seconds in it alone)."""
    shares = dict.fromkeys(("kernel", *dict.fromkeys(_OPERATORS.values())), 0.0)
    for name, own_s in taken:
        kind = "kernel" if name.startswith(_KERNEL) else _OPERATORS.get(name)
        if kind is not None:
            shares[kind] += own_s / seconds
    return {**shares, "rest": 1 - sum(shares.values())}
