"""punctuation: restore the capital letters and the punctuation marks of a line.

    q_after    <notes>  Noisy: were scott derrickson and ed wood american yes  Clean:      Were Scott ...
    q_first    Noisy: were scott derrickson and ed wood american yes  <notes>  Clean:      Were Scott ...

Notes are clean lines of the same split. What the answer needs stands in the noisy line alone: in q_after
right before the answer, so that the task is to copy and mend what has just been read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import util
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fsearch.system.files import sha256_file
from fsearch.tasks import hotpot, squad
from fsearch.tasks.edits import edit_distance, edit_similarity
from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import DataRefused, Origin, Row, Rows, Sources
from fsearch.tasks.table import part_of, with_columns
from fsearch.tasks.task import (
    Answered,
    BoolArray,
    CodeExec,
    Completed,
    Judgement,
    Progress,
    answer_of,
)
from fsearch.tasks.text import (
    NOTES,
    Draft,
    Note,
    NotedArguments,
    Part,
    TextTask,
    notes_between,
    one_line,
    words,
)

MARKS = {
    ".": "period",
    ",": "comma",
    ";": "semicolon",
    ":": "colon",
    "!": "exclamation",
    "?": "question",
    '"': "quotation",
    "(": "opening_parenthesis",
    ")": "closing_parenthesis",
    "[": "opening_bracket",
    "]": "closing_bracket",
    "{": "opening_brace",
    "}": "closing_brace",
}
"""The marks that are taken away, with their names in metrics."""

DATA_SETS = {
    "hotpot_qa": (hotpot.REPO, hotpot.CONFIG, hotpot.REVISION),
    "squad": (squad.REPO, squad.CONFIG, squad.REVISION),
    "wikitext": ("Salesforce/wikitext", "wikitext-2-raw-v1", "b08601e04326c79dfdd32d625aee71d232d685c3"),
}
"""Data set, configuration and known commit, by source."""

VALIDATION_SHARE = 0.2
"""Of the paragraphs of the offline source, which has no splits."""

FEWEST_LETTERS = 24
_SPACES = str.maketrans(dict.fromkeys(MARKS, " "))
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_WHOLE_SENTENCE = re.compile(r"[A-Z\"(“].*[.!?:][\"”)]*")
_HEADING = re.compile(r" = [^=]+ = ")  # of an article of WikiText; those of sections have more signs
_WRAPPED = re.compile(r"-\n\s*")


class PunctuationArguments(NotedArguments):
    """Restore the punctuation and the capital letters of a line."""

    figures = ("f1_marks", "case_accuracy")
    judged = ("exact_match", "edit_similarity")

    n_train: int = Field(1200, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(240, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by document."""

    order: Literal["q_after", "q_first"] = "q_after"
    """Where the noisy line stands: after the notes, or before them, far from the answer."""

    source: Literal["hotpot_qa", "squad", "wikitext", "offline"] = "hotpot_qa"
    """HotpotQA's questions with their answers; sentences of SQuAD, of WikiText-2, or of Python's own help."""

    revision: str | None = Field(None, min_length=1)
    """A commit of the data set, or a branch that is pinned when it is first read; null for a known commit."""

    min_chars: int = Field(64, ge=1, le=100_000)
    """Shortest line."""

    max_chars: int = Field(220, ge=1, le=100_000)
    """Longest line."""

    note_pool_size: int = Field(1024, ge=1, le=1_000_000)
    """Lines of the same split that notes are drawn from."""

    max_answer_tokens: int = Field(220, ge=1, le=1_000_000)
    """Longest answer: examples above it are left out."""

    @property
    def download(self) -> str | None:
        return DATA_SETS[self.source][0] if self.source in DATA_SETS else None

    @model_validator(mode="after")
    def _lines_can_be_had(self) -> PunctuationArguments:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars is {self.min_chars}, above max_chars, which is {self.max_chars}")
        return self

    _orders_differ = model_validator(mode="after")(notes_between)


@dataclass(frozen=True, slots=True)
class Line:
    """A clean line and what it is from."""

    text: str
    document: str
    sources: frozenset[str]


class Punctuation(TextTask[PunctuationArguments]):
    """See the module's docstring."""

    name = "punctuation"
    arguments_type = PunctuationArguments
    note_separator = "\n"

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        source = self.arguments.source
        if source == "offline":
            lines = sources.once(("pydoc_data",), _pydoc)
            return part_of(lines, split, VALIDATION_SHARE, lambda row: str(row["document"]))
        repo, config, commit = DATA_SETS[source]
        table = sources.hub(repo, config, split, self.arguments.revision or commit)
        if source == "hotpot_qa":  # a line a row: read as they are needed
            return with_columns(table, repo, "question", "answer", "supporting_facts.title")
        if source == "wikitext":
            return list(_wikitext(with_columns(table, repo, "text")))
        return list(_squad(with_columns(table, repo, "title", "context")))

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        line = self._line(row)
        if reason := self._fault(line.text):
            yield Rejected(reason)
            return
        noisy = Part(f"\n\nNoisy: {without_marks(line.text)}\n")
        if self.arguments.order == "q_first":
            parts = [noisy, NOTES, Part("\n\nClean:\n")]
        else:
            parts = [NOTES, noisy, Part("Clean:\n")]
        yield Draft(
            prompt=[Part("Restore the capital letters and the punctuation of the noisy line."), *parts],
            answer=Part(line.text),
            document=line.document,
            sources=line.sources,
        )

    def note(self, row: Row) -> Note | None:
        line = self._line(row)
        return None if self._fault(line.text) else Note(line.text, line.document)

    def may_note(self, note: Note, draft: Draft) -> bool:
        """Not from the same document, and neither line is the other or a part of it, marks apart."""
        if note.document == draft.document:
            return False
        this, that = without_marks(note.text), without_marks(draft.answer.text)
        return this not in that and that not in this

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Adds, each given the right tokens before it:

        `f1_<mark>`: 2 tp / (2 tp + fp + fn), where the marks of the predicted token's text are matched with
        those of the target's, place by place; `f1_marks` with all marks together. A mark that is in no
        target and no prediction is left out. `case_accuracy`: share of right tokens among the targets with
        an upper-case letter.
        """
        predicted = np.concatenate([a.predicted for a in answered])
        target = np.concatenate([a.example.targets[a.example.scored] for a in answered])
        given, wanted = self._marks[predicted], self._marks[target]
        matched = np.minimum(given, wanted).sum(axis=0)
        both = given.sum(axis=0) + wanted.sum(axis=0)  # 2 tp + fp + fn
        scores = super().metrics(answered)
        for name, matches, all_of_it in zip(MARKS.values(), matched.tolist(), both.tolist(), strict=True):
            if all_of_it:
                scores[f"f1_{name}"] = 2 * matches / all_of_it
        if both.any():
            scores["f1_marks"] = float(2 * matched.sum() / both.sum())
        upper = self._has_upper[target]
        if upper.any():
            scores["case_accuracy"] = float(np.mean(predicted[upper] == target[upper]))
        return scores

    def judge(
        self, completed: Sequence[Completed], code_exec: CodeExec, progress: Progress | None = None
    ) -> Judgement:
        """Adds `edit_similarity`, and as a figure `edit_distance`, the mean distance in characters."""
        found = super().judge(completed, code_exec, progress)
        distances, similarities = [], []
        for one in completed:
            wanted = self.tokens.decode(answer_of(one.example))
            texts = self.texts(one)
            distances.append(fmean(edit_distance(text, wanted) for text in texts))
            similarities.append(fmean(edit_similarity(text, wanted) for text in texts))
        return Judgement(
            by_example={**found.by_example, "edit_similarity": similarities},
            figures={"edit_distance": fmean(distances)},
        )

    def _line(self, row: Row) -> Line:
        if self.arguments.source != "hotpot_qa":
            return Line(row["line"], row["document"], frozenset({words(row["line"]), *row["sources"]}))
        text = f"{one_line(row['question'])} {one_line(row['answer'])}".strip()
        titles = (f"title: {title}" for title in row["supporting_facts"]["title"])
        return Line(text, words(text), frozenset({words(row["question"]), *titles}))

    def _fault(self, line: str) -> str:
        """Why a line cannot be used; "" if it can."""
        if len(line) < self.arguments.min_chars:
            return "shorter than min_chars"
        if len(line) > self.arguments.max_chars:
            return "longer than max_chars"
        if not any(mark in line for mark in MARKS):
            return "no punctuation mark"
        letters = sum(character.isalpha() for character in line)
        return "too few letters" if letters < max(FEWEST_LETTERS, len(line) // 3) else ""

    @cached_property
    def _texts(self) -> list[str]:
        """The text of every token."""
        return [self.tokens.decode([token]) for token in range(self.vocab_size)]

    @cached_property
    def _marks(self) -> NDArray[np.int64]:
        """[vocab_size, number of MARKS]: how often each mark is in each token's text."""
        counts = np.zeros((self.vocab_size, len(MARKS)), np.int64)
        for place, mark in enumerate(MARKS):
            counts[:, place] = [text.count(mark) for text in self._texts]
        return counts

    @cached_property
    def _has_upper(self) -> BoolArray:
        """[vocab_size]: whether the token's text has an upper-case letter."""
        return np.array([any(map(str.isupper, text)) for text in self._texts])


def without_marks(line: str) -> str:
    """In lower case, with a space for every mark, and single spaces."""
    return " ".join(line.lower().translate(_SPACES).split())


def sentences(paragraph: str) -> list[str]:
    """Cut after . ! ? before a capital letter, a quotation mark or a parenthesis; with single spaces."""
    return _SENTENCE_END.split(one_line(paragraph))


def _rows(paragraph: str, document: str, sources: Sequence[str] = ()) -> Iterator[Row]:
    for line in sentences(paragraph):
        yield {"line": line, "document": document, "sources": sources}


def _wikitext(table: Rows) -> Iterator[Row]:
    """Sentences; a document is an article."""
    article = ""
    for place in range(len(table)):
        text = table[place]["text"]
        if _HEADING.fullmatch(text.rstrip("\n")):
            article = text.strip(" =\n")
        elif text.strip() and not text.startswith(" ="):
            yield from _rows(text, f"article: {article}")


def _squad(table: Rows) -> Iterator[Row]:
    """Sentences; a document is a paragraph, which also has the title of its article as a source."""
    seen = set()
    for place in range(len(table)):
        row = table[place]
        document = words(row["context"])
        if document not in seen:  # a row is a question, and a paragraph has several
            seen.add(document)
            yield from _rows(row["context"], document, [f"title: {row['title']}"])


def _pydoc() -> tuple[Rows, Origin]:
    """Sentences of Python's help texts; a document is a paragraph. Raises DataRefused without them.

    The texts are those of this Python: another release has others. They are under the PSF license.
    """
    try:
        spec = util.find_spec("pydoc_data.topics")
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise DataRefused(
            "source: offline needs Python's own help texts (pydoc_data/topics.py), which this Python was "
            "packaged without. Choose another source, or a Python that has its whole standard library."
        )
    from pydoc_data.topics import topics

    lines: dict[str, Row] = {}
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            for row in _rows(_WRAPPED.sub("-", paragraph), words(paragraph)):
                if _WHOLE_SENTENCE.fullmatch(row["line"]):  # not code, grammar or headings
                    lines.setdefault(row["line"], row)
    path = Path(spec.origin).absolute()
    return list(lines.values()), Origin(name=str(path), sha256=sha256_file(path))
