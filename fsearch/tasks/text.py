"""Tasks made of the rows of a table: a prompt of several parts, an answer, and notes that fill a prompt up.

    rows --drafts--> parts and an answer, as text --> tokens, cut and filled to length --> examples

A task says what a row becomes; here is what all of them do in the same way. Every part is encoded by
itself, so that a part has the same tokens whatever stands beside it.

Nothing is cut silently: only parts that a task marks as `cut` lose their end, and how many examples did is
among the counts. An answer that is too long, or a prompt that cannot be cut to fit, leaves the example out.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import ClassVar, Literal, Protocol, TypeVar

import numpy as np
from pydantic import Field, model_validator

from fsearch.tasks import sieve
from fsearch.tasks.sieve import Candidate, Rejected, Related, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.task import (
    Arguments,
    BoolArray,
    Built,
    Completed,
    Example,
    Int32Array,
    Progress,
    Span,
    Task,
    generator,
    label,
    question_answer,
)
from fsearch.tokenizer import Bytes, Tokenizer, world

CUT = "context cut to max_prompt_tokens"
"""Remark on an example that lost the end of a part."""


class TextArguments(Arguments):
    """What all tasks made of text have."""

    shown: ClassVar[tuple[str, ...]] = ("order", "source")

    tokenizer: Literal["world", "bytes"] = "world"
    """Vocabulary: that of the official models, or bytes, for small models from scratch."""

    max_prompt_tokens: int = Field(2048, ge=1, le=1_000_000)
    """Longest prompt; a context is cut to fit, a question never."""

    min_prompt_tokens: int = Field(0, ge=0, le=1_000_000)
    """Shortest prompt: examples below it are left out."""

    max_answer_tokens: int = Field(128, ge=1, le=1_000_000)
    """Longest answer: examples above it are left out."""

    def word(self, name: str) -> str:
        return super().word(name) if name in type(self).model_fields else ""

    @model_validator(mode="after")
    def _lengths_are_in_order(self) -> TextArguments:
        if self.min_prompt_tokens > self.max_prompt_tokens:
            raise ValueError(
                f"min_prompt_tokens is {self.min_prompt_tokens}, above max_prompt_tokens, which is "
                f"{self.max_prompt_tokens}"
            )
        return self


class NotedArguments(TextArguments):
    """What tasks have whose prompts can be filled with notes, which are parts of other rows."""

    fill_notes_to_max: bool = False
    """Fill every prompt with notes to exactly max_prompt_tokens."""

    note_pool_size: int = Field(2048, ge=1, le=1_000_000)
    """Rows of the same split that notes are drawn from."""


class _Ordered(Protocol):
    order: Literal["q_first", "q_after"]
    fill_notes_to_max: bool


N = TypeVar("N", bound=_Ordered)


def notes_between(arguments: N) -> N:
    """For tasks whose orders differ by where the notes stand: refuses two orders without any notes.

    A validator of the whole arguments.
    """
    if arguments.order == "q_first" and not arguments.fill_notes_to_max:
        raise ValueError(
            "without notes, q_first and q_after are the same prompt; add fill_notes_to_max: true, "
            "or leave order out"
        )
    return arguments


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text with its own tokens."""

    text: str
    symbols: bool = False  # one token or more for each character, whatever stands beside it
    cut: bool = False  # may lose its end so that the prompt fits


NOTES = Part("")
"""Where notes go in a prompt. In several places: what stands between them is at a random place among them."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a task makes of a row."""

    prompt: Sequence[Part]  # with NOTES wherever notes may stand
    answer: Part
    document: str
    sources: frozenset[str] = frozenset()
    scored: BoolArray | None = None  # [A], for an answer whose tokens are known beforehand; default all
    reference: str = ""  # what completions are judged by beside the answer


@dataclass(frozen=True, slots=True)
class Note:
    """What of a row may stand in the prompts of others."""

    text: str
    document: str
    symbols: bool = False


T = TypeVar("T", bound=TextArguments)


class TextTask(Task[T]):
    """See the module's docstring."""

    note_separator: ClassVar[str] = "\n\n"
    """Before every note."""

    @abstractmethod
    def rows(self, sources: Sources, split: SplitName) -> Rows:
        """The rows that examples of a split are made of."""

    @abstractmethod
    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        """What a row becomes: usually one draft, or the reason why it becomes nothing."""

    def note(self, row: Row) -> Note | None:
        """What of a row may stand in other rows' prompts; None for nothing."""
        return None

    def may_note(self, note: Note, draft: Draft) -> bool:
        """Whether a note may stand in this prompt: it has other sources, and the answer is not in it."""
        own = note.document == draft.document or note.document in draft.sources
        return not own and draft.answer.text.strip().casefold() not in note.text.casefold()

    def related(self, validation: Sequence[Example]) -> Related:
        """What keeps a training example from being used beside these validation examples."""
        return sieve.unrelated(validation)

    @cached_property
    def tokens(self) -> Tokenizer:
        """The vocabulary. Raises VocabularyError if World is not installed."""
        return Bytes() if self.arguments.tokenizer == "bytes" else world()

    @property
    def vocab_size(self) -> int:
        return self.tokens.vocab_size

    def encode(self, part: Part) -> Int32Array:
        """The tokens [T] of a part."""
        if not part.symbols:
            return self.tokens.encode(part.text)
        if not part.text:
            return np.empty(0, np.int32)
        return np.concatenate([self._symbol(character) for character in part.text])

    def build(self, master_seed: int, sources: Sources, progress: Progress | None = None) -> Built:
        def candidates(split: SplitName) -> Iterator[Candidate]:
            rng = generator(master_seed, self.name, self.arguments, split)
            rows = self.rows(sources, split)
            order = rng.permutation(len(rows)).tolist()
            notes = self._notes(rows, order)
            for place in order:
                for draft in self.drafts(rows[place], rng):
                    yield draft if isinstance(draft, Rejected) else self._example(draft, notes, rng)

        return sieve.build(
            label(self.name, self.arguments),
            {"train": self.arguments.n_train, "validation": self.arguments.n_val},
            candidates,
            related=self.related,
            progress=progress,
        )

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / self.vocab_size

    def spans(self, example: Example) -> tuple[list[Span], list[Span]]:
        return decoded_spans(self.tokens, example)

    def texts(self, completed: Completed) -> list[str]:
        """The completions of an example as text."""
        return [self.tokens.decode(completion) for completion in completed.completions]

    def _example(self, draft: Draft, notes: Sequence[_EncodedNote], rng: np.random.Generator) -> Candidate:
        arguments = self.arguments
        answer = self.encode(draft.answer)
        if not len(answer):
            return Rejected("empty answer")
        if len(answer) > arguments.max_answer_tokens:
            return Rejected("answer longer than max_answer_tokens")
        parts = [self.encode(part) for part in draft.prompt]
        room = arguments.max_prompt_tokens - sum(map(len, parts))
        cut = room < 0
        for place in reversed(range(len(parts))):
            if room < 0 and draft.prompt[place].cut:
                kept = max(0, len(parts[place]) + room)
                room += len(parts[place]) - kept
                parts[place] = parts[place][:kept]
        if room < 0:
            return Rejected("prompt longer than max_prompt_tokens")
        if self._noted is not None and room:
            filling = self._filling(draft, notes, room, rng)
            if filling is None:
                return Rejected("no other row to fill the prompt with")
            places = [place for place, part in enumerate(draft.prompt) if part is NOTES]
            ends = np.sort(rng.integers(len(filling) + 1, size=len(places) - 1)).tolist()
            for place, start, end in zip(places, [0, *ends], [*ends, len(filling)], strict=True):
                parts[place] = np.concatenate([parts[place], *filling[start:end]])
        prompt = np.concatenate(parts)
        if len(prompt) < max(1, arguments.min_prompt_tokens):
            return Rejected("prompt shorter than min_prompt_tokens")
        remarks = (CUT,) if cut else ()
        return question_answer(
            prompt, answer, draft.document, draft.scored, draft.sources, remarks, draft.reference
        )

    def _filling(
        self, draft: Draft, notes: Sequence[_EncodedNote], room: int, rng: np.random.Generator
    ) -> list[Int32Array] | None:
        """Notes of exactly `room` tokens, in random order, the last one cut; None if no note may stand."""
        pieces: list[Int32Array] = []
        filled = 0
        while filled < room:
            before = filled
            for place in rng.permutation(len(notes)).tolist():
                if filled < room and self.may_note(notes[place].note, draft):
                    pieces.append(notes[place].tokens[: room - filled])
                    filled += len(pieces[-1])
            if filled == before:
                return None
        return pieces

    def _notes(self, rows: Rows, order: Sequence[int]) -> list[_EncodedNote]:
        """The first `note_pool_size` different notes, in the order of the rows."""
        if self._noted is None:
            return []
        notes: list[_EncodedNote] = []
        seen: set[str] = set()
        separator = self.tokens.encode(self.note_separator)
        for place in order:
            note = self.note(rows[place])
            if note is not None and note.text and note.text not in seen:
                seen.add(note.text)
                tokens = np.concatenate([separator, self.encode(Part(note.text, note.symbols))])
                notes.append(_EncodedNote(note, tokens))
                if len(notes) == self._noted.note_pool_size:
                    break
        return notes

    @property
    def _noted(self) -> NotedArguments | None:
        """The arguments if prompts are filled with notes."""
        arguments: TextArguments = self.arguments
        if isinstance(arguments, NotedArguments) and arguments.fill_notes_to_max:
            return arguments
        return None

    def _symbol(self, character: str) -> Int32Array:
        if character not in self._symbols:
            self._symbols[character] = self.tokens.encode(character)
        return self._symbols[character]

    @cached_property
    def _symbols(self) -> dict[str, Int32Array]:
        return {}


def one_line(text: str | None) -> str:
    """A text without line ends and without more than one space in a row."""
    return " ".join((text or "").split())


def words(text: str) -> str:
    """The words of a text without case and punctuation: the same for two spellings of one question."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def decoded_spans(tokens: Tokenizer, example: Example) -> tuple[list[Span], list[Span]]:
    """Prompt and answer of an example in the words of its vocabulary."""
    prompt = tokens.decode(example.tokens[: example.prompt_len])
    answer = example.tokens[example.prompt_len :]
    scored = example.scored[example.prompt_len - 1 : -1]
    runs = groupby(zip(answer.tolist(), scored.tolist(), strict=True), key=lambda pair: pair[1])
    return [Span(prompt)], [Span(tokens.decode([t for t, _ in run]), counts) for counts, run in runs]


@dataclass(frozen=True, slots=True, eq=False)
class _EncodedNote:
    note: Note
    tokens: Int32Array
