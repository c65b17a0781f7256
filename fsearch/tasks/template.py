"""Templates of plans: text in which fields in braces stand for columns of a row.

    Question: {question}\\nAnswer: {answers.text.0}

A dot leads into a field of a column, or to an entry of a list by its number, from 0; `{{` is a brace. Nothing
is computed: there are no formats, conversions or attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any

from fsearch.tasks.sources import DataRefused, Row


@dataclass(frozen=True)
class Template:
    """A template; `parts` raises ValueError, with a sentence, if it is none."""

    text: str

    @cached_property
    def parts(self) -> tuple[tuple[str, str | None], ...]:
        """Pairs of a text and the field after it, None at the end."""
        try:
            pieces = list(Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(
                f"{self.text!r} is no template ({error}); fields look like {{question}}, and {{{{ is a brace"
            ) from None
        for _, field, form, conversion in pieces:
            if field == "":
                raise ValueError(
                    f"{self.text!r} has a field without a name; name a column, as in {{question}}"
                )
            if form or conversion:
                raise ValueError(
                    f"{self.text!r} has a format after the field {field!r}; write it as {{{field}}} alone"
                )
        return tuple((text, field) for text, field, _, _ in pieces)

    @property
    def fields(self) -> list[str]:
        """The fields in their order, each as often as it stands there."""
        return [field for _, field in self.parts if field is not None]

    def pieces(self, row: Row) -> Iterator[tuple[str, str | None]]:
        """The texts of a row in their order, each with the field it is from, None for the template's own.

        Raises DataRefused for a field that rows of this kind do not have, Empty for one that this row lacks.
        """
        for text, field in self.parts:
            if text:
                yield text, None
            if field is not None:
                yield _value(row, field), field

    def fill(self, row: Row) -> str:
        """The text of a row. Raises as `pieces` does."""
        return "".join(text for text, _ in self.pieces(row))


class Empty(Exception):
    """A row has nothing where a template has a field; the text names the field."""


def _value(row: Row, field: str) -> str:
    here: Any = row
    path = field.split(".")
    asked = f"A template has {{{field}}}, but"
    for depth, name in enumerate(path):
        above = ".".join(path[:depth])
        if here is None:
            raise Empty(above)
        if isinstance(here, Mapping):
            if name not in here:
                where = f"the column {above!r} has no field" if above else "there is no column"
                raise DataRefused(f"{asked} {where} {name!r}; {_known(here)}.")
            here = here[name]
        elif isinstance(here, list) and name.isdecimal():
            if int(name) >= len(here):
                raise Empty(field)
            here = here[int(name)]
        else:
            what = "a list, whose entries have numbers" if isinstance(here, list) else "a single value"
            raise DataRefused(f"{asked} {above!r} is {what}; there is no {name!r} in it.")
    if here is None:
        raise Empty(field)
    if isinstance(here, Mapping):
        example = f"{{{field}.{next(iter(here), '')}}}"
        raise DataRefused(f"{asked} {field!r} is several values; name one, as in {example}.")
    if isinstance(here, list):
        raise DataRefused(f"{asked} {field!r} is a list; name one of its entries, as in {{{field}.0}}.")
    return str(here)


def _known(mapping: Mapping[str, Any]) -> str:
    return f"there are {', '.join(map(repr, mapping))}" if mapping else "there are none"
