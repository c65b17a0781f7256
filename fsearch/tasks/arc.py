"""arc: which of a few answers to a question of school science is right.

    options_first   Options:            q_first   Question: Which is a gas at 20 degrees?
                    A. oxygen
                    B. iron                       Options:
                                                  A. oxygen
                    Question: Which ...           B. iron

                    Answer:                       Answer:
                    A                             A

The answer stands at the beginning of a line, as the letters of the options do, so that it is the same
token as the letter of its option in either vocabulary, and one token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.table import rows_with, with_columns
from fsearch.tasks.task import Answered, Example, Int32Array
from fsearch.tasks.text import Draft, Part, TextArguments, TextTask, one_line, words

REPO = "allenai/ai2_arc"
COLUMNS = ("question", "choices.text", "choices.label", "answerKey")

LETTERS = "ABCDE"
"""Labels of the options; no question of the data set has more than five."""


class ArcArguments(TextArguments):
    """ARC: which of a few answers to a question of school science is right."""

    figures = ("choice_accuracy", "choice_likelihood")

    config: Literal["ARC-Challenge", "ARC-Easy"] = "ARC-Challenge"
    """Which of the two sets of questions."""

    order: Literal["options_first", "q_first"] = "options_first"
    """Which comes first: the options, or the question, which is then far from the answer."""

    source: Literal["hub", "offline"] = "hub"
    """The data set at the hub, or the table that `fsearch data fetch` made."""

    revision: str = Field("210d026faf9955653af8916fad021475a3f00453", min_length=1)
    """Commit of the data set, or a branch that is pinned to its commit the first time it is read."""

    n_train: int = Field(1000, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(256, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by document."""

    max_prompt_tokens: int = Field(512, ge=1, le=1_000_000)
    """Longest prompt: examples above it are left out, nothing is cut."""

    @property
    def download(self) -> str | None:
        return REPO if self.source == "hub" else None


class Arc(TextTask[ArcArguments]):
    """See the module's docstring."""

    name = "arc"
    arguments_type = ArcArguments

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        config = self.arguments.config
        if self.arguments.source == "hub":
            rows = sources.hub(REPO, config, split, self.arguments.revision)
            return with_columns(rows, REPO, *COLUMNS)
        table = with_columns(sources.fetched("arc"), "the table arc", *COLUMNS, "config", "split")
        return rows_with(table, config=config, split=split)

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        yield self._draft(row)

    @property
    def choice_tokens(self) -> Int32Array:
        return np.concatenate([self.tokens.encode(letter) for letter in LETTERS])

    def chance(self, validation: Sequence[Example]) -> float:
        return float(np.mean([1 / self._n_choices(example) for example in validation]))

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Adds what a model gives that has to choose among the letters of the options.

        `choice_accuracy` is how often the right one is the most likely, the first of equals;
        `choice_likelihood` is the mean of its probability.
        """
        letters = self.choice_tokens
        right, likelihood = [], []
        for answer in answered:
            assert answer.choice_logits is not None
            logits = answer.choice_logits[0, : self._n_choices(answer.example)].astype(np.float64)
            probabilities = np.exp(logits - logits.max())
            target = np.flatnonzero(letters == answer.example.targets[answer.example.scored][0])[0]
            right.append(logits.argmax() == target)
            likelihood.append(probabilities[target] / probabilities.sum())
        return {
            **super().metrics(answered),
            "choice_accuracy": float(np.mean(right)),
            "choice_likelihood": float(np.mean(likelihood)),
        }

    def _n_choices(self, example: Example) -> int:
        """How many options stand in the prompt; a question never begins a line, so it looks like none."""
        prompt = self.tokens.decode(example.tokens[: example.prompt_len])
        return len(re.findall(rf"^[{LETTERS}]\. ", prompt, re.MULTILINE))

    def _draft(self, row: Row) -> Draft | Rejected:
        question = one_line(row["question"])
        labels, texts = row["choices"]["label"], [one_line(text) for text in row["choices"]["text"]]
        if not question:
            return Rejected("empty question")
        if len(texts) < 2:
            return Rejected("fewer than two choices")
        if len(texts) > len(LETTERS):
            return Rejected(f"more than {len(LETTERS)} choices")
        if len(labels) != len(texts) or len(set(labels)) < len(labels):
            return Rejected("choices without a label of their own")
        if not all(texts):
            return Rejected("empty choice")
        if len(set(texts)) < len(texts):
            return Rejected("two equal choices")
        if row["answerKey"] not in labels:
            return Rejected("answer key that is no label")
        by_label = sorted(zip(labels, texts, strict=True))
        options = [f"{letter}. {text}" for letter, (_, text) in zip(LETTERS, by_label, strict=False)]
        answer = LETTERS[sorted(labels).index(row["answerKey"])]
        blocks = ["\n".join(["Options:", *options]), f"Question: {question}"]
        if self.arguments.order == "q_first":
            blocks.reverse()
        return Draft([Part("\n\n".join([*blocks, "Answer:\n"]))], Part(answer), document=words(question))
