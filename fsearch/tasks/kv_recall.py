"""kv_recall: look up the values of some keys among key-value pairs.

    q_after   k4:v1 k0:v6 k2:v1 k1:v3 | k2 k4 ?      v1 v1
    q_first   k2 k4 | k4:v1 k0:v6 k2:v1 k1:v3 ?      v1 v1

Every key occurs once. In q_after the model has read all pairs before it knows which ones are asked
for; in q_first it knows while it reads. Guessing scores 1 / n_values. A model that gives the most
frequent value of the prompt stands above that without having looked up anything: about 0.29 with the
default arguments, the plateau on which training often rests for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from fsearch.tasks.generated import GeneratedTask
from fsearch.tasks.sieve import Candidate, SplitName
from fsearch.tasks.task import Arguments, Example, Span, question_answer

SEPARATOR, ASK, FIRST_KEY = 1, 2, 3
DRAWN_AT_ONCE = 1024


class KvRecallArguments(Arguments):
    """Look up the values of some keys among key-value pairs."""

    shown = ("order",)

    order: Literal["q_after", "q_first"] = "q_after"
    """Where the queried keys stand: after the pairs (q_after) or before them, far from the answer."""

    n_keys: int = Field(12, ge=1, le=4096)
    """Keys; all of them are in every prompt."""

    n_values: int = Field(8, ge=2, le=4096)
    """Kinds of values."""

    n_queries: int = Field(3, ge=1, le=4096)
    """Distinct keys asked for in one prompt."""

    @model_validator(mode="after")
    def _queries_are_distinct(self) -> KvRecallArguments:
        if self.n_queries > self.n_keys:
            raise ValueError(f"n_queries is {self.n_queries}, but there are only {self.n_keys} keys (n_keys)")
        return self


class KvRecall(GeneratedTask[KvRecallArguments]):
    """See the module's docstring. Prompt 2 * n_keys + n_queries + 2 tokens, answer n_queries tokens."""

    name = "kv_recall"
    arguments_type = KvRecallArguments

    @property
    def vocab_size(self) -> int:
        return FIRST_KEY + self.arguments.n_keys + self.arguments.n_values

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        n_keys, n_queries = self.arguments.n_keys, self.arguments.n_queries
        shape = (DRAWN_AT_ONCE, n_keys)
        separator = np.full((DRAWN_AT_ONCE, 1), SEPARATOR, np.int32)
        ask = np.full((DRAWN_AT_ONCE, 1), ASK, np.int32)
        while True:
            keys = rng.random(shape).argsort(axis=1, kind="stable").astype(np.int32) + FIRST_KEY
            values = rng.integers(self.arguments.n_values, size=shape, dtype=np.int32) + FIRST_KEY + n_keys
            places = rng.random(shape).argsort(axis=1, kind="stable")[:, :n_queries]
            queries = np.take_along_axis(keys, places, axis=1)
            answers = np.take_along_axis(values, places, axis=1)
            pairs = np.stack([keys, values], axis=2).reshape(DRAWN_AT_ONCE, 2 * n_keys)
            first, second = (pairs, queries) if self.arguments.order == "q_after" else (queries, pairs)
            prompts = np.concatenate([first, separator, second, ask], axis=1)
            for prompt, answer in zip(prompts, answers, strict=True):
                yield question_answer(prompt, answer, document=" ".join(map(str, prompt.tolist())))

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / self.arguments.n_values

    def spans(self, example: Example) -> tuple[list[Span], list[Span]]:
        words = [self._word(token) for token in example.tokens.tolist()]
        # A value belongs to the key before it.
        prompt = " ".join(words[: example.prompt_len]).replace(" v", ":v")
        return [Span(prompt)], [Span(" ".join(words[example.prompt_len :]), scored=True)]

    def _word(self, token: int) -> str:
        first_value = FIRST_KEY + self.arguments.n_keys
        if token >= first_value:
            return f"v{token - first_value}"
        return f"k{token - FIRST_KEY}" if token >= FIRST_KEY else "#|?"[token]
