"""The tables that `fsearch data fetch` has made: JSON lines in a folder of the user's cache, read whole."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from fsearch.tasks.sources.rows import DataRefused, Origin, Row, Rows


def folder() -> Path:
    """Where the tables are: $FSEARCH_DATA, else fsearch/data in $XDG_CACHE_HOME, else in ~/.cache."""
    if named := os.environ.get("FSEARCH_DATA"):
        return Path(named).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).absolute() if cache else Path.home() / ".cache") / "fsearch" / "data"


def file_of(name: str) -> Path:
    """The file of the table `name`; it need not exist."""
    return folder() / f"{name}.jsonl"


def read(name: str) -> tuple[Rows, Origin]:
    """The rows of the table `name`, and what they were read from.

    Raises DataRefused where it was not fetched or has been damaged since, OSError where it cannot be read.
    """
    path = file_of(name)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DataRefused(
            f"The table {path} is not there. Run `fsearch data fetch`, which downloads it once, or set "
            "FSEARCH_DATA to the folder that has it."
        ) from None
    try:
        rows = [_row(line) for line in content.split(b"\n") if line]
    except ValueError as error:
        raise DataRefused(
            f"The table {path} is damaged ({error}). Run `fsearch data fetch`, which makes it again."
        ) from error
    origin = Origin(name=str(path), sha256=hashlib.sha256(content).hexdigest())
    return rows, origin


def _row(line: bytes) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("a line is not an object")
    return row
