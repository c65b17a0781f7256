"""What the tasks on proteins share: chains, their crops, the prompt, and which chains may be in both splits.

    q_after   <title>                         q_first   <title>
                                                        Positions: 3 17 20
              Another protein: GAVL...                  Another protein: GAVL...
              Sequence: MKVLA...                        Sequence: MKVLA...
              Positions: 3 17 20
              Labels: HHE                               Labels: HHE

Residues and labels have one token each. Notes are the sequences of other chains of the same split, without
labels. An example's document is the whole sequence of its chain: copies of a chain are in one split and one
half, whatever they are called.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field, model_validator

from fsearch.tasks import sieve
from fsearch.tasks.homology import WordIndex
from fsearch.tasks.sieve import Related, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.table import part_of, with_columns
from fsearch.tasks.task import Example
from fsearch.tasks.text import NOTES, Draft, Note, NotedArguments, Part, TextTask

MAX_SHARE = 0.1
"""Of 5-mers, above which two chains are relatives (`fsearch.tasks.homology`)."""

PACKAGED = "proteins"
PACKAGED_SHARE = 0.5
"""Of the chains of the packaged table that have no relative there, for validation."""


class ProteinArguments(NotedArguments):
    """What the tasks on proteins have."""

    order: Literal["q_after", "q_first"] = "q_after"
    """Where the question stands: after the sequence, next to the answer, or first and far from it. The drafts
    had the two names the other way round."""

    revision: str = Field("main", min_length=1)
    """Commit of the data set, or a branch that is pinned to its commit the first time it is read."""

    examples_per_chain: int = Field(1, ge=1, le=10_000)
    """Examples that may be made of one chain, by other crops and other questions."""

    min_seq_len: int = Field(96, ge=1, le=100_000)
    """Shortest chain, in residues."""

    max_seq_len: int = Field(512, ge=1, le=100_000)
    """Longest sequence in a prompt, in residues: of a longer chain a random stretch is taken."""

    max_note_seq_len: int = Field(256, ge=1, le=100_000)
    """Residues of a note: the first ones of another chain."""

    @model_validator(mode="after")
    def _sequence_lengths_are_in_order(self) -> ProteinArguments:
        if self.min_seq_len > self.max_seq_len:
            raise ValueError(
                f"min_seq_len is {self.min_seq_len}, above max_seq_len, which is {self.max_seq_len}"
            )
        return self


P = TypeVar("P", bound=ProteinArguments)


class ProteinTask(TextTask[P]):
    """See the module's docstring."""

    note_separator = "\n\nAnother protein: "

    @abstractmethod
    def chains(self, sources: Sources, split: SplitName) -> Rows:
        """The chains of a split."""

    @abstractmethod
    def sequence(self, row: Row) -> str:
        """The residues of a chain, one letter each."""

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        return _Repeated(self.chains(sources, split), self.arguments.examples_per_chain)

    def note(self, row: Row) -> Note:
        sequence = self.sequence(row)
        return Note(sequence[: self.arguments.max_note_seq_len], document=sequence, symbols=True)

    def may_note(self, note: Note, draft: Draft) -> bool:
        return note.document != draft.document  # no sequence has an answer in it, though it has the letters

    def related(self, validation: Sequence[Example]) -> Related:
        shared = sieve.unrelated(validation)
        index = WordIndex(sorted({example.document for example in validation}))
        largest_share = cache(index.largest_share)

        def reason(example: Example) -> str:
            too_similar = largest_share(example.document) > MAX_SHARE
            return shared(example) or ("similar to a chain of the other split" if too_similar else "")

        return reason

    def refusal(self, sequence: str) -> str:
        """Why a sequence cannot be used; "" if it can."""
        if not sequence:
            return "empty sequence"
        if not (sequence.isascii() and sequence.isalpha()):
            return "residue that is not a letter"
        return "chain shorter than min_seq_len" if len(sequence) < self.arguments.min_seq_len else ""

    def crop(self, length: int, rng: np.random.Generator) -> slice:
        """A random stretch of at most max_seq_len of `length` residues."""
        kept = min(length, self.arguments.max_seq_len)
        start = int(rng.integers(length - kept + 1))
        return slice(start, start + kept)

    def prompt(self, title: str, sequence: str, question: str, cue: str) -> list[Part]:
        """The parts of a prompt, the question where `order` has it."""
        chain = [Part("\n\nSequence: "), Part(sequence, symbols=True)]
        asked = Part(f"\n\n{question}")
        middle = [asked, NOTES, *chain] if self.arguments.order == "q_first" else [NOTES, *chain, asked]
        return [Part(title), *middle, Part(f"\n\n{cue}: ")]


def letters(text: str | None) -> str:
    """A column of residues or labels without white space."""
    return "".join((text or "").split())


def family(row: Row) -> frozenset[str]:
    """The family of a chain, where the table knows it."""
    return frozenset([f"family {row['family']}"]) if "family" in row else frozenset()


def packaged_chains(sources: Sources, split: SplitName, *columns: str) -> list[Row]:
    """A split of the packaged table. Validation chains are half of those that have no relative in it."""
    table = with_columns(sources.packaged(PACKAGED), f"the table {PACKAGED}", *columns, "Sequence", "family")
    rows = [table[place] for place in range(len(table))]
    sizes = Counter(row["family"] for row in rows)
    alone = [row for row in rows if sizes[row["family"]] == 1]
    chosen = part_of(alone, split, PACKAGED_SHARE, lambda row: str(row["Sequence"]))
    others = [row for row in rows if sizes[row["family"]] > 1] if split == "train" else []
    return [*(chosen[place] for place in range(len(chosen))), *others]


@dataclass(frozen=True, slots=True)
class _Repeated:
    rows: Rows
    times: int

    def __len__(self) -> int:
        return len(self.rows) * self.times

    def __getitem__(self, place: int, /) -> Row:
        return self.rows[place % len(self.rows)]
