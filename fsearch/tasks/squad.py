"""squad: a span of a paragraph answers a question about it.

    q_after   Context:                      q_first   Question: Who won?
              <notes>
              The Broncos won in 2016.                Context:
              <notes>                                 <notes>
                                                      The Broncos won in 2016.
              Question: Who won?                      <notes>

              Answer: The Broncos                     Answer: The Broncos

With fill_notes_to_max the paragraph stands at a random place among paragraphs of other articles in which
the answer does not occur. A paragraph is never cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from pydantic import Field

from fsearch.tasks import short_answer
from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.table import rows_with, with_columns
from fsearch.tasks.task import BoolArray, CodeExec, Completed, Judgement, Progress
from fsearch.tasks.text import NOTES, Draft, Note, NotedArguments, Part, TextTask, one_line
from fsearch.tokenizer import Tokenizer

REPO, CONFIG = "rajpurkar/squad", "plain_text"
REVISION = "7b6d24c440a36b6815f21b70d25016731768db1f"
COLUMNS = ("title", "context", "question", "answers.text", "answers.answer_start")


class SquadArguments(NotedArguments):
    """SQuAD: a span of a paragraph answers a question about it."""

    judged = ("exact_match", "f1")

    order: Literal["q_after", "q_first"] = "q_after"
    """Where the question stands: after the paragraph, or before it and so far from the answer."""

    source: Literal["hub", "offline"] = "hub"
    """The data set at the hub, or the table that `fsearch data fetch` made."""

    revision: str = Field(REVISION, min_length=1)
    """Commit of the data set, or a branch that is pinned to its commit the first time it is read."""

    n_train: int = Field(2048, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(512, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by document."""

    max_prompt_tokens: int = Field(2048, ge=1, le=1_000_000)
    """Longest prompt: examples above it are left out, nothing is cut."""

    max_answer_tokens: int = Field(24, ge=1, le=1_000_000)
    """Longest answer: examples above it are left out."""

    @property
    def download(self) -> str | None:
        return REPO if self.source == "hub" else None


class Squad(TextTask[SquadArguments]):
    """See the module's docstring."""

    name = "squad"
    arguments_type = SquadArguments

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        if self.arguments.source == "hub":
            rows = sources.hub(REPO, CONFIG, split, self.arguments.revision)
            return with_columns(rows, REPO, *COLUMNS)
        return fetched_rows(sources, split)

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        yield self._draft(row)

    def note(self, row: Row) -> Note:
        return Note(one_line(row["context"]), document=row["title"])

    def _draft(self, row: Row) -> Draft | Rejected:
        question, paragraph = one_line(row["question"]), one_line(row["context"])
        answers = row["answers"]
        if not question:
            return Rejected("empty question")
        if not answers["text"]:
            return Rejected("no answer")
        answer, start = answers["text"][0], answers["answer_start"][0]
        if not answer.strip() or row["context"][start : start + len(answer)] != answer:
            return Rejected("answer that is not where it should be in the paragraph")
        return Draft(
            with_question(self.arguments.order, question, [NOTES, Part(f"\n\n{paragraph}"), NOTES]),
            Part(f" {one_line(answer)}"),
            document=paragraph,
            sources=frozenset([row["title"]]),
            scored=scored_after_space(self.tokens, one_line(answer)),
            reference=json.dumps(list(dict.fromkeys(map(one_line, answers["text"])))),
        )

    def judge(
        self, completed: Sequence[Completed], code_exec: CodeExec, progress: Progress | None = None
    ) -> Judgement:
        """Adds what `short_answers` says, with all answers of a question."""
        return short_answers(completed, self.texts, lambda one: json.loads(one.example.reference))


def fetched_rows(sources: Sources, split: SplitName) -> list[Row]:
    """The rows of a split of the table that `fsearch data fetch` made; no article is in both splits."""
    table = with_columns(sources.fetched("squad"), "the table squad", *COLUMNS, "id", "split")
    return rows_with(table, split=split)


def short_answers(
    completed: Sequence[Completed],
    texts_of: Callable[[Completed], Sequence[str]],
    answers_of: Callable[[Completed], Sequence[str]],
) -> Judgement:
    """`exact_match` and `f1` in words, normalised as for SQuAD, each the mean over an example's samples."""
    both = {"exact_match": short_answer.exact_match, "f1": short_answer.f1}
    return Judgement(
        by_example={
            name: [fmean(score(text, answers_of(one)) for text in texts_of(one)) for one in completed]
            for name, score in both.items()
        }
    )


def scored_after_space(tokens: Tokenizer, answer: str) -> BoolArray:
    """Which tokens [A] of " " and `answer` count: all but a space that is a token of its own, as in bytes."""
    pieces = tokens.encode(f" {answer}")
    scored = np.ones(len(pieces), np.bool_)
    scored[0] = tokens.decode(pieces[:1]) != " "
    return scored


def with_question(order: str, question: str, context: Sequence[Part]) -> list[Part]:
    """A prompt of a question and what it is about, whose parts begin with an empty line.

    Both orders have the same blocks, and so the same length.
    """
    if order == "q_first":
        return [Part(f"Question: {question}\n\nContext:"), *context, Part("\n\nAnswer:")]
    return [Part("Context:"), *context, Part(f"\n\nQuestion: {question}\n\nAnswer:")]
