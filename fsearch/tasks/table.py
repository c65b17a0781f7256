"""What every task made of a table needs of it: its columns, and one table as both splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fsearch.tasks.sieve import SplitName
from fsearch.tasks.sources import DataRefused, Row, Rows
from fsearch.tasks.task import document_hash


def with_columns(rows: Rows, name: str, *columns: str) -> Rows:
    """The rows of the data set or file `name`; "column.field" is a field of a column.

    Raises DataRefused where a column or a field is not there.
    """
    there = rows[0] if len(rows) else {}
    missing = [column for column in columns if not _has(there, column)]
    if missing:
        have = f"it has {', '.join(map(repr, there))}" if there else "it has no rows"
        raise DataRefused(f"{name} has no column {' or '.join(map(repr, missing))}; {have}.")
    return rows


def rows_with(rows: Rows, **values: str) -> list[Row]:
    """The rows whose columns have these values, in their order."""
    every = (rows[place] for place in range(len(rows)))
    return [row for row in every if all(row[column] == value for column, value in values.items())]


def part_of(rows: Rows, split: SplitName, validation_share: float, key: Callable[[Row], str]) -> Rows:
    """One split of a table that has only one: about `validation_share` of its keys, by their hash.

    Rows with one key are in one split. Which one does not depend on the other rows.
    """
    bound = int(validation_share * 2**64)  # the highest bits; the lowest one halves the validation set
    ours = [
        place
        for place in range(len(rows))
        if (document_hash(key(rows[place])) < bound) == (split == "validation")
    ]
    return _Chosen(rows, ours)


def _has(row: Row, name: str) -> bool:
    column, _, field = name.partition(".")
    return column in row and (not field or (isinstance(row[column], Mapping) and field in row[column]))


@dataclass(frozen=True, slots=True)
class _Chosen:
    rows: Rows
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int, /) -> Row:
        return self.rows[self.places[place]]
