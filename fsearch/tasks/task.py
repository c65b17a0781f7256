"""What a task is: its arguments, its examples, and the levels its scores are read against.

A task turns arguments and a master seed into training and validation examples, and can show one to a
person. It does not write files (`fsearch.tasks.prepared` does), does not batch, and knows nothing of
models. Everything here is numpy: no torch.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fsearch.tasks.sources import Sources

END = 0
"""Token that closes an answer: trained, never scored. The same number in every vocabulary."""

NO_TARGET = -1
"""Target of a position where nothing is trained."""

Int32Array = NDArray[np.int32]
BoolArray = NDArray[np.bool_]
Progress = Callable[[int, int], None]
"""Called with (examples done, examples wanted)."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One example of T tokens. Future-Seed is captured after the first `prompt_len` of them."""

    tokens: Int32Array
    """[T]: what the model reads."""
    prompt_len: int
    """Tokens of the prompt, 1..T; T where the whole sequence is the prompt."""
    targets: Int32Array
    """[T]: `targets[t]` is what `logits[t]` must give, NO_TARGET where nothing is trained."""
    scored: BoolArray
    """[T]: the targets that count for score and loss."""
    document: str
    """What the example was made from. Training and validation never share one."""
    sources: frozenset[str] = frozenset()
    """What else it was made from. What is in here or is the document of a validation example is in neither
    for a training example."""
    remarks: tuple[str, ...] = ()
    """What was done to it that a person should know, such as a cut: counted and reported."""
    reference: str = ""
    """What its task judges completions by, beside the tokens: JSON of the task's own; empty for nothing."""


def question_answer(
    prompt: Int32Array,
    answer: Int32Array,
    document: str,
    scored: BoolArray | None = None,
    sources: frozenset[str] = frozenset(),
    remarks: tuple[str, ...] = (),
    reference: str = "",
) -> Example:
    """The example in which `answer` [A] and then END follow `prompt` [P].

    `scored` [A] marks the answer tokens that count (default: all of them). END never counts.
    """
    start = len(prompt) - 1  # logits of the last prompt token give the first answer token
    tokens = np.concatenate([prompt, answer])
    targets = np.full(len(tokens), NO_TARGET, np.int32)
    targets[start:-1] = answer
    targets[-1] = END
    counts = np.zeros(len(tokens), np.bool_)
    counts[start:-1] = True if scored is None else scored
    return Example(tokens, len(prompt), targets, counts, document, sources, remarks, reference)


def answer_of(example: Example) -> Int32Array:
    """[A]: the tokens after the prompt."""
    return example.tokens[example.prompt_len :]


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of an example as a person reads it."""

    text: str
    scored: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What a model answered to one example with S scored tokens, each given the right ones before it."""

    example: Example
    predicted: Int32Array
    """[S]: the most likely token of the whole vocabulary at each scored place, in order."""
    choice_logits: NDArray[np.float32] | None
    """[S, C]: the logits of the task's `choice_tokens`, None if it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """What a model generated for one example, token by token from its prompt."""

    example: Example
    completions: tuple[Int32Array, ...]
    """One of each sample, without the END that closed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the completions of n examples came to."""

    by_example: dict[str, list[float]]
    """[n] by metric, each in 0..1, more being better: the mean over an example's samples."""
    figures: dict[str, float] = field(default_factory=dict)
    """Further figures about all of them."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """Metrics that could not be had, each with the reason."""


CodeExec = Literal["off", "bwrap", "unsafe"]
"""Whether generated programs are run: not at all, in the sandbox, or with this user's rights."""


def document_hash(document: str) -> int:
    """64 bits of SHA-256: the identity of a document in prepared data."""
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "little")


class Arguments(BaseModel):
    """Arguments that every task has. A task adds its own, each with a docstring and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    shown: ClassVar[tuple[str, ...]] = ()
    """Arguments whose bare value always stands in the label, in this order."""

    figures: ClassVar[tuple[str, ...]] = ()
    """Those of the task's figures about answers, beside `whole_answer`, that a plan may decide on."""

    judged: ClassVar[tuple[str, ...]] = ("exact_match",)
    """Metrics of completions, example by example; none where no answer follows the prompt."""

    n_train: int = Field(16384, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(1024, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by document."""

    @property
    def download(self) -> str | None:
        """What these arguments need from a network, for people; None if everything is here."""
        return None

    @property
    def file(self) -> Path | None:
        """The file that these arguments name and need, None if they name none."""
        return None

    @property
    def portable(self) -> dict[str, Any]:
        """All arguments, the same for the same plan on every machine: what random streams depend on."""
        return self.model_dump(mode="json")

    def metrics(self, samples: int, *, executes: bool) -> tuple[str, ...]:
        """The metrics that a plan may decide on, where `samples` completions of an example are generated.

        0: none are. `executes`: programs are run, if the task has any.
        """
        return ("whole_answer", *self.figures, *(self.judged if samples else ()))

    def word(self, name: str) -> str:
        """How the value of a `shown` argument is written in a label; empty for an unset one."""
        value = getattr(self, name)
        return "" if value is None else str(value)


def label(task: str, arguments: Arguments) -> str:
    """Short name of a task with its arguments: the shown ones, then those that are not the default."""
    shown = [arguments.word(name) for name in arguments.shown]
    changed = [
        f"{name}={getattr(arguments, name)}"
        for name, field in type(arguments).model_fields.items()
        if name not in arguments.shown and getattr(arguments, name) != field.default
    ]
    return " ".join([task, *(word for word in shown if word), *changed])


def canonical_json(value: Any) -> bytes:
    """One spelling per value: the bytes that hashes are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def generator(master_seed: int, task: str, arguments: Arguments, stream: str) -> np.random.Generator:
    """The random numbers of one stream of one task: a function of the four values and nothing else."""
    key = canonical_json([master_seed, task, arguments.portable, stream])
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key).digest(), "little")))


Counts = Mapping[str, Mapping[str, int]]
"""Split -> what happened to its candidates ("candidates", each filter, "built") -> how many."""


@dataclass(frozen=True, slots=True)
class Built:
    """The examples of a task, exactly as many as its arguments ask for."""

    train: Sequence[Example]
    validation: Sequence[Example]
    counts: Counts


class DataShort(Exception):
    """Fewer examples could be built than asked for. `counts` says which filter removed how many."""

    def __init__(self, sentence: str, counts: Counts) -> None:
        super().__init__(f"{sentence}\n{_table(counts)}")
        self.sentence = sentence
        self.counts = counts


def _table(counts: Counts) -> str:
    rows = list(dict.fromkeys(row for column in counts.values() for row in column))
    width = max((len(row) for row in rows), default=0)
    lines = [" " * width + "".join(f"  {split:>10}" for split in counts)]
    for row in rows:
        lines.append(f"{row:<{width}}" + "".join(f"  {column.get(row, 0):>10}" for column in counts.values()))
    return "\n".join(lines)


A = TypeVar("A", bound=Arguments)


class Task(ABC, Generic[A]):
    """A task with its arguments filled in."""

    name: ClassVar[str]
    arguments_type: ClassVar[type[Arguments]]

    def __init__(self, arguments: A) -> None:
        self.arguments = arguments

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Tokens are 0..vocab_size-1."""

    @property
    def choice_tokens(self) -> Int32Array | None:
        """[C]: the tokens whose logits `metrics` wants at every scored place; None for none."""
        return None

    @abstractmethod
    def build(self, master_seed: int, sources: Sources, progress: Progress | None = None) -> Built:
        """Exactly n_train and n_val examples, in a fixed order; the same for the same seed and rows.

        Raises DataShort where that many cannot be had, and what `sources` raises.
        """

    @abstractmethod
    def chance(self, validation: Sequence[Example]) -> float:
        """Expected score of guessing, in 0..1."""

    @abstractmethod
    def spans(self, example: Example) -> tuple[list[Span], list[Span]]:
        """Prompt and answer as a person reads them."""

    def render(self, example: Example) -> tuple[str, str]:
        """The text of prompt and answer."""
        prompt, answer = self.spans(example)
        return "".join(span.text for span in prompt), "".join(span.text for span in answer)

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Figures about all answers of one evaluation, by name; a task adds its own to these.

        `whole_answer` is the share of examples with every scored token right.
        """
        whole = [np.array_equal(a.predicted, a.example.targets[a.example.scored]) for a in answered]
        return {"whole_answer": float(np.mean(whole))}

    def judge(
        self, completed: Sequence[Completed], code_exec: CodeExec, progress: Progress | None = None
    ) -> Judgement:
        """What the completions came to; a task adds its own metrics to `exact_match`.

        `exact_match`: the completion is the answer, token by token. `progress` is told of what takes long.
        """
        matches = [
            fmean(np.array_equal(completion, answer_of(one.example)) for completion in one.completions)
            for one in completed
        ]
        return Judgement(by_example={"exact_match": matches})

    def majority(self, train: Sequence[Example], validation: Sequence[Example]) -> float:
        """Score on `validation`, in 0..1, of always giving the most frequent scored target of `train`."""
        seen = np.concatenate([example.targets[example.scored] for example in train])
        answer = np.bincount(seen).argmax()
        shares = [np.mean(example.targets[example.scored] == answer) for example in validation]
        return float(np.mean(shares))
