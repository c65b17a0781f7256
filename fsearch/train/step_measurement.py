"""The measurement of `fsearch bench step`: real optimizer steps of an attempt, on random tokens.

Network, loss, backward pass and update are those of a training; one micro-batch makes a step. Peak memory is
that of the whole process, on a GPU what torch reserved there, so a process measures one precision.

Deliberately not here: the kernel's build, and everything on the screen.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from fsearch import kernels
from fsearch.plan import canonical, schema
from fsearch.plan.variant import parse_name
from fsearch.train import model_flop
from fsearch.train.backend import set_up_torch
from fsearch.train.batches import Batch
from fsearch.train.job import Channel
from fsearch.train.machine_limit import Clock
from fsearch.train.memory import peak_resident_mib
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Precision, Recipe

VARIANT = "scalar_l1"
LR = 3e-5
PARTS = ("forward", "head", "backward", "update")
T = TypeVar("T")

_FEWEST_STEPS, _MOST_STEPS = 4, 200
_STEPS_S, _PROFILED_S = 1.0, 0.05
_TARGETS_ARE_THE_LAST = 4  # of so many tokens one: an example ends in its answer

_OPERATORS = {
    "aten::mm": "matrix_products",
    "aten::addmm": "matrix_products",
    "aten::bmm": "matrix_products",
    "aten::copy_": "copies_and_casts",
    "aten::_fused_adamw_": "adamw",
}
_KERNEL = "fsearch::wkv7"


@dataclass(frozen=True)
class Shape:
    """A model, and the batch that is measured unless another is asked for."""

    n_layer: int
    n_embd: int
    head_size: int
    vocab_size: int
    batch: int
    tokens: int


SHAPES = {
    "demo": Shape(3, 32, 8, vocab_size=10, batch=32, tokens=18),
    "0.1b": Shape(12, 768, 64, vocab_size=65536, batch=1, tokens=256),
}


class StepMeasurement:
    """Steps in one precision by a plan's default recipe, with Future-Seed in every layer that can have it."""

    def __init__(
        self,
        shape: Shape,
        batch: int,
        tokens: int,
        precision: Precision,
        device: torch.device,
        threads: int,
        channel: Channel,
    ) -> None:
        set_up_torch(threads)
        self._precision, self._device, self._channel = precision, device, channel
        self._clock = Clock(device, threads)
        self._batch = _random_batch(batch, tokens, shape.vocab_size)
        recipe = {**schema.Recipe(lr=(LR,)).model_dump(), "lr": LR, "precision": precision}
        job = {
            "model": {"init": {name: getattr(shape, name) for name in ("n_layer", "n_embd", "head_size")}},
            "recipe": recipe,
            "form": canonical(parse_name(VARIANT), shape.n_layer),
            "streams": {"init": 0},
        }
        self._say("drawing initial values")
        self._network = Network.from_job(job, shape.vocab_size).to(str(device))
        self._optimization = Optimization(self._network, Recipe.from_job(recipe), _MOST_STEPS)
        self._loss = torch.zeros(())
        self._done = 0
        model = self._network.model
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        self._flop = model_flop.of_step(model, self._batch.tokens.size, len(self._batch.targets))
        self._peak_flop_per_s = model_flop.stated_peak(gpu, precision)
        channel.send(
            "setting",
            setting={
                "shape": {**asdict(shape), "batch": batch, "tokens": tokens},
                "targets": len(self._batch.targets),
                "variant": VARIANT,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "flop": self._flop,
                "gpu": gpu,
                "threads": threads,
                "kernel": kernels.backend(device.type, model.compute_dtype, model.head_size),
                "torch": torch.__version__,
                "clock": self._clock.name,
            },
        )

    def run(self) -> None:
        """Make the steps and send a `row`."""
        self._parts_of_step()  # the first one allocates what all the others use
        steps = self._several(self._parts_of_step)
        totals = [sum(step.values()) for step in steps]
        shares = {part: sum(step[part] for step in steps) / sum(totals) for part in PARTS}
        if self._device.type == "cuda":  # which works on one part while the next is being launched
            totals = self._several(self._whole_step)
        memory_mib = self._peak_memory_mib()  # before the profiler, which takes some of its own
        median = statistics.median(totals)
        self._channel.send(
            "row",
            row={
                "precision": self._precision,
                "steps": len(totals),
                "step_s": {"best": min(totals), "median": median},
                "tokens_per_s": self._batch.tokens.size / median,
                "peak_memory_mib": memory_mib,
                "flop_per_s": self._flop / median,
                "stated_peak_flop_per_s": self._peak_flop_per_s,
                "mfu": self._peak_flop_per_s and self._flop / median / self._peak_flop_per_s,
                "parts": shares,
                "operators": self._operators(max(1, round(_PROFILED_S / median))),
                "loss": self._loss.item(),
            },
        )

    def _several(self, measure: Callable[[], T]) -> list[T]:
        """What `measure` gives, for about a second."""
        found: list[T] = []
        began = time.monotonic()
        while len(found) < _FEWEST_STEPS or (
            len(found) < _MOST_STEPS and time.monotonic() - began < _STEPS_S
        ):
            self._say(f"step {self._done + 1}")
            found.append(measure())
        return found

    def _peak_memory_mib(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device) / 2**20
        return peak_resident_mib()

    def _whole_step(self) -> float:
        """Seconds of the next step, with no wait for the device inside it."""
        seconds = self._clock.seconds(self._step)
        self._done += 1
        return seconds

    def _parts_of_step(self) -> dict[str, float]:
        """Seconds of each part of the next step."""
        seconds = {
            "forward": self._clock.seconds(self._forward),
            "head": self._clock.seconds(self._head),
            "backward": self._clock.seconds(self._backward),
            "update": self._clock.seconds(self._update),
        }
        self._done += 1
        return seconds

    def _step(self) -> None:
        self._forward()
        self._head()
        self._backward()
        self._update()

    def _forward(self) -> None:
        self._optimization.zero_grad()
        self._hidden = self._network.hidden_at_targets(self._batch)

    def _head(self) -> None:
        trained_tokens = len(self._batch.targets)
        self._loss, self._d_hidden = self._network.learn_head(self._hidden, self._batch, trained_tokens)

    def _backward(self) -> None:
        self._hidden.backward(self._d_hidden)  # type: ignore[no-untyped-call]
        del self._hidden, self._d_hidden

    def _update(self) -> None:
        self._optimization.update(min(self._done, _MOST_STEPS - 1))  # the schedule has no more steps

    def _operators(self, steps: int) -> dict[str, float]:
        """Shares of some more steps by kind of operator. The rest is Python's and the profiler's too."""
        self._say("more steps in the profiler")
        on_gpu = self._device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as profiled:
            began = time.perf_counter()
            for _ in range(steps):
                self._step()
            if on_gpu:
                torch.cuda.synchronize(self._device)
            seconds = time.perf_counter() - began
        own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        taken = ((event.key, getattr(event, own) / 1e6) for event in profiled.key_averages())
        return shares_by_operator(taken, seconds)

    def _say(self, doing: str) -> None:
        self._channel.send("progress", doing=f"{self._precision}: {doing}")


def shares_by_operator(taken: Iterable[tuple[str, float]], seconds: float) -> dict[str, float]:
    """What share of `seconds` each kind of operator took, from (name of an operator, seconds in it alone)."""
    shares = dict.fromkeys(("kernel", *dict.fromkeys(_OPERATORS.values())), 0.0)
    for name, own_s in taken:
        kind = "kernel" if name.startswith(_KERNEL) else _OPERATORS.get(name)
        if kind is not None:
            shares[kind] += own_s / seconds
    return {**shares, "rest": 1 - sum(shares.values())}


def _random_batch(batch: int, tokens: int, vocab_size: int) -> Batch:
    """Examples of random tokens, equally long; the targets of each are its last ones."""
    words = np.random.default_rng(0).integers(vocab_size, size=(batch, tokens))
    num_targets = max(1, tokens // _TARGETS_ARE_THE_LAST)
    first = tokens - num_targets - 1  # the place that gives the first target
    columns = np.arange(first, tokens - 1)
    return Batch(
        tokens=words,
        prompt_len=np.full(batch, first + 1),
        positions=(np.arange(batch)[:, None] * tokens + columns).ravel(),
        targets=words[:, first + 1 :].ravel(),
    )
