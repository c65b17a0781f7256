"""Completions of validation examples: generated from their prompts alone, and judged by their task.

Which examples, how many samples and how long is the job's; the random numbers come from its stream
"completions" alone. So the figures are a function of the job and the weights: the same after an interruption,
and with the same random numbers for a variant and its baseline.

Deliberately not here: when this is done (`trainer`), what a completion is worth (each task's `judge`), and
how tokens follow each other (`fsearch.rwkv7.generate`).
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fsearch.rwkv7.generate import generate
from fsearch.tasks import Task
from fsearch.tasks.prepared import Split
from fsearch.tasks.task import END, Completed, Example
from fsearch.train.batches import Integers
from fsearch.train.evaluate import EVALUATION_FACTOR
from fsearch.train.job import Channel, Job
from fsearch.train.memory import Memory
from fsearch.train.network import Network

TRIED_TOKENS = 3
"""Tokens that a probe generates: the prompts take most memory, and every token after the first as much."""

_PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """What the completions of one half came to."""

    figures: dict[str, float]  # by name, in the task's order
    by_example: dict[str, NDArray[np.float64]]  # [n] by metric, NaN for the examples that were left out
    unavailable: dict[str, str]  # metrics that could not be had, and why

    def packed(self) -> dict[str, str]:
        """The arrays as base64 of their little-endian bytes."""
        arrays = {name: values.astype("<f8") for name, values in self.by_example.items()}
        return {name: base64.b64encode(array.tobytes()).decode("ascii") for name, array in arrays.items()}


def asked_completions(
    job: Job, task: Task[Any], channel: Channel, memory: Memory, stop_if_asked: Callable[[], None]
) -> Completions | None:
    """What generates the completions that a job asks for; None if it asks for none."""
    asked = job["evaluate"].get("completions")
    return Completions(job, task, channel, memory, stop_if_asked) if asked else None


class Completions:
    """Generates and judges as a job asks. `stop_if_asked` may raise to end it early."""

    def __init__(
        self, job: Job, task: Task[Any], channel: Channel, memory: Memory, stop_if_asked: Callable[[], None]
    ) -> None:
        self._settings: dict[str, Any] = job["evaluate"]["completions"]
        self._stream: int = job["streams"]["completions"]
        self._probe = job["role"] == "probe"
        self._rows = EVALUATION_FACTOR * job["micro_batch"]  # generated together
        self._task, self._channel, self._memory = task, channel, memory
        self._stop_if_asked = stop_if_asked
        self._said_s = 0.0

    def of(self, network: Network, splits: Sequence[Split]) -> Judged:
        """Those of the chosen examples of some splits, which follow each other; of a probe nothing.

        Raises ValueError for a metric that is no finite number.
        """
        if self._probe:
            self._try_out(network, splits)
            return Judged({}, {}, {})
        chosen = subset(splits, self._settings["examples"])
        examples = [_example(splits, place) for place in chosen.tolist()]
        samples: int = self._settings["samples"]
        prompts = [example.tokens[: example.prompt_len] for example in examples for _ in range(samples)]
        generated = self._generate(network, prompts, self._settings["max_tokens"])
        completed = [
            Completed(example, tuple(generated[at * samples : (at + 1) * samples]))
            for at, example in enumerate(examples)
        ]
        with self._memory.lifted():  # which is not for the programs that are run
            found = self._task.judge(completed, self._settings["code_exec"], self._executed)
        lengths = np.array([len(completion) for completion in generated])
        figures = {name: math.fsum(values) / len(values) for name, values in found.by_example.items()}
        figures |= found.figures
        figures["completions_cut"] = float(np.mean(lengths == self._settings["max_tokens"]))
        for name, value in figures.items():
            if not math.isfinite(value):
                raise ValueError(f"the metric {name} of the task {self._task.name} came to {value}")
        by_example = {}
        for name, values in found.by_example.items():
            by_example[name] = np.full(sum(map(len, splits)), np.nan)
            by_example[name][chosen] = values
        return Judged(figures, by_example, found.unavailable)

    def _try_out(self, network: Network, splits: Sequence[Split]) -> None:
        """Begin as many completions as are made together, from the longest prompts: what memory they take."""
        lengths = np.concatenate([split.prompt_len for split in splits])
        longest = np.repeat(np.argsort(-lengths, kind="stable")[: self._rows], self._settings["samples"])
        prompts = [_prompt(splits, place) for place in longest[: self._rows].tolist()]
        self._generate(network, prompts, min(TRIED_TOKENS, self._settings["max_tokens"]))

    def _generate(
        self, network: Network, prompts: Sequence[NDArray[np.int32]], max_tokens: int
    ) -> list[NDArray[np.int32]]:
        """One completion [up to max_tokens] a prompt."""
        random = torch.Generator().manual_seed(self._stream)
        answers: list[NDArray[np.int32]] = []
        for start in range(0, len(prompts), self._rows):
            some = [
                torch.from_numpy(prompt.astype(np.int64)) for prompt in prompts[start : start + self._rows]
            ]
            of = f"completions {start + 1} to {start + len(some)} of {len(prompts)}"

            def before_token(token: int, of: str = of) -> None:
                self._say(f"{of}, token {token + 1} of at most {max_tokens}")

            found = generate(
                network.model,
                some,
                max_tokens=max_tokens,
                future_seed=network.future_seed,
                temperature=self._settings["temperature"],
                stop=(END,),
                generator=random,
                before_token=before_token,
            )
            answers += [np.array(answer, np.int32) for answer in found]
        return answers

    def _executed(self, done: int, of: int) -> None:
        self._say(f"programs run: {done} of {of}")

    def _say(self, doing: str) -> None:
        self._stop_if_asked()
        now_s = time.monotonic()
        if now_s - self._said_s >= _PROGRESS_EVERY_S:
            self._said_s = now_s
            self._channel.send("progress", doing=doing)


def subset(splits: Sequence[Split], count: int | None) -> Integers:
    """The places of `count` examples among those of the splits, ascending; all of them if None.

    The first by the hashes of their documents: always the same ones, and those of a smaller count among them.
    """
    documents = np.concatenate([split.document for split in splits])
    return np.sort(np.argsort(documents, kind="stable")[:count])


def _example(splits: Sequence[Split], place: int) -> Example:
    for split in splits:
        if place < len(split):
            return split.example(place)
        place -= len(split)
    raise IndexError(place)


def _prompt(splits: Sequence[Split], place: int) -> NDArray[np.int32]:
    example = _example(splits, place)
    return example.tokens[: example.prompt_len]
