"""sft: any data set or file, with a template for the prompt and one for the answer.

    data: notes.jsonl      {"text": "Rain on Monday.", "label": "weather"}
    prompt: "{text}\\nTopic:"     answer: " {label}"

    Rain on Monday.
    Topic: weather

There is no argument for an order: a prompt template says where its question stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.sources.reader import FORMATS
from fsearch.tasks.table import part_of
from fsearch.tasks.task import Example
from fsearch.tasks.template import Empty, Template
from fsearch.tasks.text import Draft, Part, TextArguments, TextTask

_DATA_SET = re.compile(r"[\w.-]+/[\w.-]+")


class SftArguments(TextArguments):
    """Any data set or file, with templates for prompt and answer."""

    shown = ("data", "config", "prompt", "answer")

    data: str = Field(min_length=1)
    """owner/name at the hub, or a .jsonl, .parquet, .csv, .json or .tsv file, relative to the plan."""

    config: str | None = Field(None, min_length=1)
    """Configuration of the data set, if it has several."""

    revision: str = Field("main", min_length=1)
    """Of the data set: a commit, or a branch that is pinned to its commit the first time it is read."""

    train_split: str = Field("train", min_length=1)
    """Split of the data set that training examples are made of."""

    val_split: str | None = Field(None, min_length=1)
    """Split for validation; null: a share of train_split, or of the file, by a hash of the document."""

    val_share: float = Field(0.1, gt=0, lt=1)
    """Share of the documents for validation where there is no split for it."""

    prompt: str = Field(min_length=1)
    """Template of the prompt, such as "{context}\\n{question}"; {answers.text.0} leads into a column."""

    answer: str = Field(min_length=1)
    """Template of the answer."""

    document: str | None = Field(None, min_length=1)
    """Template of what rows must share to stay in one split, such as "{context}"; null: the whole prompt."""

    context: str | None = Field(None, min_length=1)
    """Field of the prompt that may lose its end so that the prompt fits."""

    symbols: bool = False
    """Encode the answer character by character, so that each one counts by itself."""

    answers: list[str] | None = Field(None, min_length=2)
    """All possible answers, for the chance level; rows with another answer are left out."""

    @property
    def download(self) -> str | None:
        return None if self.file else self.data

    @property
    def file(self) -> Path | None:
        return Path(self.data) if _is_file(self.data) else None

    @property
    def portable(self) -> dict[str, Any]:
        return {**super().portable, "data": self.file.name if self.file else self.data}

    def word(self, name: str) -> str:
        if name == "data":
            return self.file.name if self.file else self.data
        if name in ("prompt", "answer"):
            fields = ",".join(Template(getattr(self, name)).fields)
            return fields if name == "prompt" else f"-> {fields}"
        return super().word(name)

    @field_validator("data")
    @classmethod
    def _is_a_data_set_or_an_absolute_path(cls, data: str, info: ValidationInfo) -> str:
        if _is_file(data):
            return os.path.abspath(os.path.join((info.context or {}).get("folder", ""), data))
        if not _DATA_SET.fullmatch(data):
            raise ValueError(
                f"{data!r} is neither a data set such as owner/name nor a file whose name ends in one of "
                f"{', '.join(FORMATS)}"
            )
        return data

    @field_validator("prompt", "answer", "document")
    @classmethod
    def _has_fields(cls, template: str | None) -> str | None:
        if template is not None and not Template(template).fields:
            raise ValueError(
                f"{template!r} has no field, so that it is the same for every row; add one in braces"
            )
        return template

    @field_validator("config", "revision", "train_split", "val_split")
    @classmethod
    def _is_of_a_data_set(cls, value: str | None, info: ValidationInfo) -> str | None:
        name = info.field_name or ""
        if _is_file(info.data.get("data", "")) and value != cls.model_fields[name].default:
            raise ValueError(f"{name} is for data sets of the hub, and data is a file; leave it out")
        if name == "val_split" and value == info.data.get("train_split"):
            raise ValueError(
                f"train_split is {value!r} too; leave val_split out, and val_share of the documents are for "
                "validation"
            )
        return value

    @field_validator("context")
    @classmethod
    def _is_once_in_the_prompt(cls, context: str | None, info: ValidationInfo) -> str | None:
        prompt = info.data.get("prompt")
        if context and prompt and Template(prompt).fields.count(context) != 1:
            raise ValueError(f"the prompt must have the field {{{context}}} once; it is {prompt!r}")
        return context


def _is_file(data: str) -> bool:
    return Path(data).suffix.lower() in FORMATS


class Sft(TextTask[SftArguments]):
    """See the module's docstring."""

    name = "sft"
    arguments_type = SftArguments

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        arguments = self.arguments
        if arguments.file:
            table = sources.local(arguments.file)
        else:
            name = arguments.val_split if split == "validation" else None
            where = arguments.data, arguments.config, name or arguments.train_split, arguments.revision
            table = sources.hub(*where)
            if arguments.val_split:
                return table
        return part_of(table, split, arguments.val_share, self._document)

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        try:
            pieces = list(Template(self.arguments.prompt).pieces(row))
            answer = Template(self.arguments.answer).fill(row)
            document = self._document_template.fill(row)
        except Empty as empty:
            yield Rejected(f"nothing in {{{empty}}}")
            return
        if self.arguments.answers is not None and answer not in self.arguments.answers:
            yield Rejected("answer that is not among answers")
            return
        context = self.arguments.context
        yield Draft(
            prompt=[Part(text, cut=field is not None and field == context) for text, field in pieces],
            answer=Part(answer, symbols=self.arguments.symbols),
            document=document,
        )

    def chance(self, validation: Sequence[Example]) -> float:
        """With `answers`, the score of giving one of them at random; else of any token."""
        if self.arguments.answers is None:
            return super().chance(validation)
        answers = [self.encode(Part(text, symbols=self.arguments.symbols)) for text in self.arguments.answers]
        shares = []
        for example in validation:
            wanted = example.targets[example.scored]
            right = [np.sum(wanted[: len(a)] == a[: len(wanted)]) for a in answers]
            shares.append(np.mean(right) / len(wanted))
        return float(np.mean(shares))

    @cached_property
    def _document_template(self) -> Template:
        return Template(self.arguments.document or self.arguments.prompt)

    def _document(self, row: Row) -> str:
        try:
            return self._document_template.fill(row)
        except Empty:
            return ""  # in whichever split, it is left out there
