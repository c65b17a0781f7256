"""One attempt, in this process: load, train, evaluate, report.

The numbers are a function of the job alone: the same in a cold process, in a forked one, and after any number
of interruptions. Everything random comes from the job's streams.

Deliberately not here: what a result means, what runs next, time limits; processes and pipes (see `job`,
`zygote`).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsearch import kernels
from fsearch.rwkv7 import weights_sha256
from fsearch.tasks import create, prepared
from fsearch.train import checkpoint
from fsearch.train.backend import load_kernel, set_up_torch, use_backend
from fsearch.train.batches import DataOrder, Examples, Integers
from fsearch.train.completions import Judged, asked_completions
from fsearch.train.endings import Ended, end_if_diverged, end_if_hopeless, end_if_noop
from fsearch.train.evaluate import EVALUATION_FACTOR, Scores, evaluate
from fsearch.train.faults import Faults
from fsearch.train.job import Channel, Job
from fsearch.train.memory import OutOfMemory, is_refused_allocation, memory_of
from fsearch.train.metrics import metrics
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Recipe
from fsearch.train.training_step import make_step

# Where torch has this module, the first step of an optimizer imports it: a forked worker must find it.
with contextlib.suppress(ImportError):
    importlib.import_module("torch.profiler._cupti_monitor")

EARLY_STEPS = 20
"""The losses of so many steps, and the weights after them, show whether a variant does anything at all."""

_PROGRESS_EVERY_S = 0.2

_SPLITS: dict[str, tuple[prepared.SplitName, ...]] = {
    "screen": ("screen",),
    "confirm": ("confirm",),
    "all": ("screen", "confirm"),
}
"""The splits of prepared data that a half of the validation examples is made of. `all` is both halves."""


class Trainer:
    """The state of one attempt while it runs."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self._job, self._channel = job, channel
        self._steps: int = job["steps"]
        self._recipe = Recipe.from_job(job["recipe"])
        self._probe = job["role"] == "probe"
        self._memory = memory_of(job["device"])
        self._faults = Faults(job, channel, lambda: self._network.model)
        self._stop_asked = self._unsaved = False
        self._phase = ""
        self._phase_began = time.monotonic()
        self._seconds = {"load": 0.0, "train": 0.0, "evaluate": 0.0}
        if job["evaluate"].get("completions"):
            self._seconds["generate"] = 0.0
        # What a checkpoint carries, beside the weights and the optimizer:
        self._step = 0
        self._tokens = 0
        self._first_losses: list[float] = []
        self._early_sha256: str | None = None
        self._curve: list[dict[str, Any]] = []
        self._resumed_from = 0
        self._metrics: dict[str, dict[str, float]] = {}  # by half
        self._judged: dict[str, Judged] = {}  # by half, where completions are asked for
        self._longest = 0  # tokens of an example

    def run(self) -> None:
        """Run the attempt and send its result. Anything that goes wrong is raised, OutOfMemory among it."""
        try:
            self._run()
        except Exception as error:
            self._memory.unlimited()
            if not is_refused_allocation(error):
                raise
            size = self._job["micro_batch"]
            sizes = f"{size} example{'s' * (size > 1)} of up to {self._longest} tokens"
            raise OutOfMemory(f"out of memory with {sizes}: {self._memory.told(error)}") from error

    def _run(self) -> None:
        imported = set(sys.modules)
        if ahead := "ahead" in self._job:
            self._load_on_the_cpu()
            self._job = self._channel.told_to_begin()  # which knows the rows that were still to come
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        scores: dict[str, Scores] = {}
        outcome, reason = "completed", f"{self._steps} steps"
        self._enter("load")
        if not ahead:
            self._load_on_the_cpu()
        self._load_on_the_device()
        try:
            self._train()
            scores = self._evaluate_at_the_end()
        except Ended as end:
            outcome, reason, scores = end.outcome, end.reason, {}
        self._enter("finish")
        late = sorted(name for name in set(sys.modules) - imported if name.split(".")[0] == "torch")
        self._channel.send(
            "result", outcome=outcome, reason=reason, late_torch_imports=late, **self._figures(scores)
        )

    def _load_on_the_cpu(self) -> None:
        """Data and weights. Nothing here touches an accelerator: the attempt before may still be on it."""
        job = self._job
        set_up_torch(job["threads"])
        if job["device"] == "cpu" and job["memory_mib"] is not None:
            self._memory.limit(job["memory_mib"])
        data = prepared.load(Path(job["data"]["path"]))
        if data.meta.sha256 != job["data"]["sha256"]:
            raise ValueError(
                f"the prepared data in {job['data']['path']} have the checksum {data.meta.sha256}, the "
                f"attempt asks for {job['data']['sha256']}; remove that folder and they are prepared again"
            )
        self._longest = data.meta.max_tokens
        self._task = create(data.meta.task, data.meta.arguments)
        self._examples = Examples([data.split("train")], only_scored=False)
        self._splits = {half: [data.split(name) for name in _SPLITS[half]] for half in job["halves"]}
        self._validation = {half: Examples(splits, only_scored=True) for half, splits in self._splits.items()}
        self._completions = asked_completions(
            job, self._task, self._channel, self._memory, self._stop_if_asked
        )
        self._order = DataOrder(job["streams"]["order"], len(self._examples))
        self._network = Network.from_job(job, data.meta.vocab_size)

    def _load_on_the_device(self) -> None:
        """The rest: what computes, the optimizer, and the state of an earlier process."""
        job = self._job
        if job["device"] != "cpu" and job["memory_mib"] is not None:
            self._memory.limit(job["memory_mib"])
        use_backend(job["backend"], job["device"])
        self._network.to(job["device"])
        self._optimization = Optimization(self._network, self._recipe, self._steps)
        self._resume()

    # Training

    def _train(self) -> None:
        self._enter("train")
        self._reported = (time.monotonic(), self._tokens)
        if self._kept is not None:  # AdamW has two more numbers for every weight
            self._kept.begin(3 * checkpoint.size_bytes(self._network.state_dict()))
        while self._step < self._steps:
            self._stop_if_asked()
            self._evaluate_if_due()
            loss = self._train_step()
            self._report(loss)
            if self._step == min(EARLY_STEPS, self._steps):
                self._early_sha256 = weights_sha256(self._network.model)
                end_if_noop(self._job["noop_reference"], self._first_losses, self._early_sha256)
            self._save_if_due()

    def _train_step(self) -> float:
        """One optimizer step over `batch` examples, in micro-batches. Returns its loss per trained token."""
        job = self._job
        self._faults.strike("step", self._step + 1)
        indices = self._indices_of_step()
        value = make_step(
            self._network,
            self._optimization,
            self._examples.batches(indices, job["micro_batch"]),
            int(self._examples.num_targets[indices].sum()),
            self._step,
            before_update=lambda: self._faults.strike("update", self._step + 1),
        )
        end_if_diverged(value, self._step + 1, self._steps)
        self._step += 1
        self._tokens += int(self._examples.num_tokens[indices].sum())
        if len(self._first_losses) < EARLY_STEPS:
            self._first_losses.append(value)
            self._memory.mark()  # pages of files come with the first steps and would hide what these took
        return value

    def _indices_of_step(self) -> Integers:
        if self._probe:  # the second micro-batch finds the gradients of the first, a third nothing more
            longest = self._examples.longest(self._job["micro_batch"])
            return np.resize(longest, min(self._job["batch"], 2 * self._job["micro_batch"]))
        indices = self._order.step(self._step, self._job["batch"])
        return self._examples.dealt(indices, self._job["micro_batch"])

    def _report(self, loss: float) -> None:
        now = time.monotonic()
        then, tokens = self._reported
        if now - then < _PROGRESS_EVERY_S and self._step < self._steps:
            return
        self._reported = (now, self._tokens)
        self._memory.mark()
        self._channel.send(
            "progress",
            step=self._step,
            steps=self._steps,
            loss=loss,
            tokens_per_s=(self._tokens - tokens) / max(now - then, 1e-9),
        )

    # Evaluation

    def _evaluate_if_due(self) -> None:
        """A point of the curve, on the first half asked for, and the look; the last step has its own."""
        asked = self._job["evaluate"]
        completes = self._step in asked.get("completions_at", ())
        on_the_curve = asked["every"] is not None and self._step > 0 and self._step % asked["every"] == 0
        if not (on_the_curve or completes or self._step == asked.get("look")):
            return
        if not self._curve or self._curve[-1]["step"] != self._step:  # else made before an interruption
            self._enter("evaluate")
            half = self._job["halves"][0]
            point = self._point(half, self._scores(half))
            if completes:
                point["metrics"] = self._judge(half).figures
            self._curve.append(point)  # whole, or a checkpoint would have it in part
            self._channel.send("evaluation", **point)
            self._enter("train")
            self._reported = (time.monotonic(), self._tokens)
        end_if_hopeless(self._job["look"], self._curve[-1]["score"], self._step, self._steps)

    def _look_score(self) -> float | None:
        """What the curve has for the step of the look."""
        look = self._job["evaluate"].get("look")
        return next((point["score"] for point in self._curve if point["step"] == look), None)

    def _evaluate_at_the_end(self) -> dict[str, Scores]:
        self._enter("evaluate")
        scores = {}
        for half in self._job["halves"]:
            scores[half] = self._scores(half, self._task.choice_tokens)
            self._channel.send("evaluation", **self._point(half, scores[half]))
            if not self._probe:
                self._metrics[half] = metrics(self._task, self._splits[half], scores[half])
        for half in self._job["halves"] if self._completions else ():
            self._judged[half] = self._judge(half)
        return scores

    def _judge(self, half: str) -> Judged:
        """The completions of a half; of a probe only what they take of memory."""
        assert self._completions is not None
        self._enter("generate")
        return self._completions.of(self._network, self._splits[half])

    def _scores(self, half: str, choice_tokens: NDArray[np.int32] | None = None) -> Scores:
        examples = self._validation[half]
        batch_size = EVALUATION_FACTOR * self._job["micro_batch"]
        indices = examples.longest(batch_size) if self._probe else np.arange(len(examples))
        scores = evaluate(self._network, examples, indices, batch_size, self._stop_if_asked, choice_tokens)
        if not math.isfinite(scores.mean_loss):
            raise Ended("diverged", f"the loss on the {half} half is not finite after {self._step} steps")
        return scores

    def _point(self, half: str, scores: Scores) -> dict[str, Any]:
        return {
            "step": self._step,
            "half": half,
            "score": scores.score,
            "acc_pooled": scores.acc_pooled,
            "loss": scores.mean_loss,
            "examples": len(scores.total),
        }

    # Interruptions

    def _ask_to_stop(self, *_: object) -> None:
        self._stop_asked = True

    def _stop_if_asked(self) -> None:
        if self._stop_asked:
            self._save()
            raise Ended("interrupted", f"asked to stop (SIGTERM) after {self._step} of {self._steps} steps")

    def _save_if_due(self) -> None:
        if self._kept is not None and self._kept.due():
            self._save()

    def _save(self) -> None:
        """Write a checkpoint. One that cannot be written costs steps if we are interrupted, and no more."""
        if self._kept is None:
            return
        state = {
            "network": self._network.state_dict(),
            "optimizer": self._optimization.state_dict(),
            "step": self._step,
            "tokens": self._tokens,
            "first_losses": self._first_losses,
            "early_sha256": self._early_sha256,
            "curve": self._curve,
        }
        try:
            self._kept.save(state)
        except OSError as error:
            text = f"no checkpoint could be written after step {self._step}: {error}"
            if not self._unsaved:
                self._channel.send("notice", text=text)
            self._unsaved = True

    def _resume(self) -> None:
        self._kept = None if self._job["checkpoint"] is None else checkpoint.Kept(self._job)
        state = None if self._kept is None else self._kept.load()
        if state is None:
            return
        self._network.load_state_dict(state["network"])
        self._optimization.load_state_dict(state["optimizer"])
        self._step = self._resumed_from = state["step"]
        self._tokens = state["tokens"]
        self._first_losses = state["first_losses"]
        self._early_sha256 = state["early_sha256"]
        self._curve = state["curve"]
        for point in self._curve:
            self._channel.send("evaluation", **point)

    # Reporting

    def _enter(self, phase: str) -> None:
        now = time.monotonic()
        if self._phase:
            self._seconds[self._phase] += now - self._phase_began
        self._phase, self._phase_began = phase, now
        self._memory.mark()
        self._channel.enter(phase)
        self._faults.strike(phase, self._step)

    def _figures(self, scores: dict[str, Scores]) -> dict[str, Any]:
        """All of a result but its outcome. A probe has no scores: it saw a few long examples only."""
        halves: list[str] = self._job["halves"] if scores and not self._probe else []
        headline = scores[halves[-1]] if halves else None
        screen = scores["screen"] if len(halves) == 2 else None
        model = self._network.model
        judged = self._judged if halves else {}
        figures = {half: self._metrics[half] | (judged[half].figures if judged else {}) for half in halves}
        return {
            "score": headline and headline.score,
            "loss": headline and headline.mean_loss,
            "acc_pooled": headline and headline.acc_pooled,
            "screen_score": screen and screen.score,
            "screen_loss": screen and screen.mean_loss,
            "look_score": self._look_score(),
            "metrics": figures[halves[-1]] if halves else {},
            "screen_metrics": figures["screen"] if screen else {},
            "unavailable": {
                name: why for found in judged.values() for name, why in found.unavailable.items()
            },
            "steps": self._step,
            "tokens": self._tokens,
            "first_losses": self._first_losses,
            "early_weights_sha256": self._early_sha256,
            "weights_sha256": weights_sha256(model),
            "seconds": self._seconds,
            "peak_memory_mib": self._memory.peak_mib(),
            "backend": kernels.backend(self._job["device"], model.compute_dtype, model.head_size),
            "resumed_from_step": self._resumed_from,
            "examples": {half: scores[half].packed() for half in halves},
            "example_metrics": {half: found.packed() for half, found in judged.items()},
        }


def run(job: Job, channel: Channel, kernel_cache: Path | None = None, cuda: Sequence[str] = ()) -> None:
    """Run one attempt job, with the kernel for the GPUs `cuda` if it is loaded or lies in `kernel_cache`."""
    load_kernel(kernel_cache, cuda)
    Trainer(job, channel).run()
