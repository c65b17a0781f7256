"""hotpot: a question whose answer follows from two of ten paragraphs.

    q_after   Context:                          q_first   Question: In which country ...?

              Title: Text of a paragraph.                 Context:

              Title: Text of a paragraph.                 Title: Text of a paragraph.
              ...                                         ...

              Question: In which country ...?             Answer: France

              Answer: France

A prompt that is too long loses paragraphs from its end, but never one that the answer follows from: then
what remains could not be answered, and a score would be read against the wrong ceiling.

`squad_distractor` makes rows of the same kind from SQuAD: a question, its one paragraph, and nine of other
articles without the answer, in an order that the id of the question decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np
from pydantic import Field

from fsearch.tasks import squad
from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.table import with_columns
from fsearch.tasks.task import CodeExec, Completed, Judgement, Progress, answer_of, document_hash
from fsearch.tasks.text import Draft, Part, TextArguments, TextTask, one_line, words

REPO, CONFIG = "hotpotqa/hotpot_qa", "distractor"
REVISION = "1908d6afbbead072334abe2965f91bd2709910ab"
COLUMNS = ("question", "answer", "context.title", "context.sentences", "supporting_facts.title")

N_DISTRACTORS = 9


class HotpotArguments(TextArguments):
    """HotpotQA: a question whose answer follows from two of ten paragraphs."""

    judged = ("exact_match", "f1")

    order: Literal["q_after", "q_first"] = "q_after"
    """Where the question stands: after the paragraphs, or before them and so far from the answer."""

    source: Literal["hub", "squad_distractor"] = "hub"
    """HotpotQA at the hub, or SQuAD questions among ten paragraphs, of what `fsearch data fetch` made."""

    revision: str = Field(REVISION, min_length=1)
    """Commit of the data set, or a branch that is pinned to its commit the first time it is read."""

    n_train: int = Field(2048, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(512, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by document."""

    max_prompt_tokens: int = Field(2048, ge=1, le=1_000_000)
    """Longest prompt: longer ones lose paragraphs, but neither the question nor what answers it."""

    max_answer_tokens: int = Field(24, ge=1, le=1_000_000)
    """Longest answer: examples above it are left out."""

    @property
    def download(self) -> str | None:
        return REPO if self.source == "hub" else None


class Hotpot(TextTask[HotpotArguments]):
    """See the module's docstring."""

    name = "hotpot"
    arguments_type = HotpotArguments

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        if self.arguments.source == "hub":
            rows = sources.hub(REPO, CONFIG, split, self.arguments.revision)
            return with_columns(rows, REPO, *COLUMNS)
        return SquadDistractor(squad.fetched_rows(sources, split))

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        yield self._draft(row)

    def _draft(self, row: Row) -> Draft | Rejected:
        question, answer = one_line(row["question"]), one_line(row["answer"])
        context = zip(row["context"]["title"], row["context"]["sentences"], strict=True)
        paragraphs = [(one_line(title), one_line(" ".join(sentences))) for title, sentences in context]
        paragraphs = [(title, text) for title, text in paragraphs if text]
        titles = {title for title, _ in paragraphs}
        needed = {one_line(title) for title in row["supporting_facts"]["title"]}
        if not question:
            return Rejected("empty question")
        if not answer:
            return Rejected("empty answer")
        if not needed or not needed <= titles:
            return Rejected("supporting paragraph that is not in the context")
        parts = [Part(f"\n\n{title}: {text}", cut=title not in needed) for title, text in paragraphs]
        return Draft(
            squad.with_question(self.arguments.order, question, parts),
            Part(f" {answer}"),
            document=words(question),
            sources=frozenset(titles),
            scored=squad.scored_after_space(self.tokens, answer),
        )

    def judge(
        self, completed: Sequence[Completed], code_exec: CodeExec, progress: Progress | None = None
    ) -> Judgement:
        """In words, as SQuAD's; a question has one answer."""
        return squad.short_answers(
            completed, self.texts, lambda one: [self.tokens.decode(answer_of(one.example))]
        )


class SquadDistractor:
    """Rows of SQuAD as rows of HotpotQA: a question, its paragraph, and nine of other articles.

    A row is a function of the table alone. Where fewer paragraphs than nine may be used, all of them are.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._paragraphs = sorted({(row["title"], row["context"]) for row in rows})

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Row:
        row = self._rows[place]
        rng = np.random.default_rng(document_hash(row["id"]))
        own, answer = (row["title"], row["context"]), next(iter(row["answers"]["text"]), "")
        shuffled = (self._paragraphs[i] for i in rng.permutation(len(self._paragraphs)))
        other = (
            (title, text)
            for title, text in shuffled
            if title != own[0] and answer.casefold() not in text.casefold()
        )
        context = list(islice(other, N_DISTRACTORS))
        context.insert(int(rng.integers(len(context) + 1)), own)
        titles = [title.replace("_", " ") for title, _ in context]
        return {
            "id": row["id"],
            "question": row["question"],
            "answer": answer,
            "context": {"title": titles, "sentences": [[text] for _, text in context]},
            "supporting_facts": {"title": [own[0].replace("_", " ")], "sent_id": [0]},
        }
