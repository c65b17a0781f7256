"""Drawn tasks that are text, one token a byte, so that a small model and a checkpoint read the same.

The ids are those of the `Bytes` vocabulary, which are the World vocabulary's ids of single bytes: nothing
is merged, and a character of the answer is one scored token. A question stands after its context or before
it, and what asks for the answer is the same in both orders:

    q_after   <context>?<question>=<answer>
    q_first   <question>?<context>=<answer>
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import product
from string import ascii_lowercase
from typing import Literal

import numpy as np
from pydantic import Field

from fsearch.tasks.generated import GeneratedTask
from fsearch.tasks.task import A, Arguments, BoolArray, Example, Span, question_answer
from fsearch.tasks.text import decoded_spans
from fsearch.tokenizer import Bytes

TOKENS = Bytes()

DIGITS = "0123456789"
NAMES = tuple(map("".join, product(ascii_lowercase, repeat=2)))
"""All names: two letters."""


class QuestionedArguments(Arguments):
    """What tasks with a context and a question about it have."""

    shown = ("order",)

    order: Literal["q_after", "q_first"] = "q_after"
    """Where the question stands: after the context, next to the answer, or before it (q_first)."""


class ValuedArguments(Arguments):
    """What tasks with numbers for values have."""

    n_digits: int = Field(6, ge=1, le=18)
    """Digits of a value (the drafts' retr_vlen and kv_vlen)."""


class ByteLevelTask(GeneratedTask[A]):
    """A drawn task with a text for a prompt and a text for an answer."""

    @property
    @abstractmethod
    def symbols(self) -> str:
        """The characters that scored tokens stand for, each equally likely; guessing one is chance."""

    @property
    def vocab_size(self) -> int:
        return TOKENS.vocab_size

    def example(
        self, prompt: str, answer: str, document: str | None = None, scored: BoolArray | None = None
    ) -> Example:
        """The example of a prompt and an answer; its document is the prompt if not given.

        `scored` marks the characters of the answer that count (default: those among `symbols`).
        """
        if scored is None:
            scored = np.array([character in self.symbols for character in answer])
        tokens, answer_tokens = TOKENS.encode(prompt), TOKENS.encode(answer)
        return question_answer(tokens, answer_tokens, prompt if document is None else document, scored)

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / len(self.symbols)

    def spans(self, example: Example) -> tuple[list[Span], list[Span]]:
        return decoded_spans(TOKENS, example)


def asked(order: str, context: str, question: str) -> str:
    """The prompt of a question about a context."""
    first, second = (context, question) if order == "q_after" else (question, context)
    return f"{first}?{second}="


def drawn_values(rng: np.random.Generator, n: int, n_digits: int) -> list[str]:
    """`n` numbers of `n_digits` digits, leading zeros included."""
    return [f"{value:0{n_digits}}" for value in rng.integers(10**n_digits, size=n).tolist()]


def written_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Keys and values as a context."""
    return ";".join(f"{key}={value}" for key, value in pairs)
