"""Reads local files of a known format with `datasets`, into a table that lies on disk while it is used.

A file that cannot be parsed is refused with the line, where there is one. What the disk does wrong is
left to the caller.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fsearch.system import hub_client
from fsearch.system.chain import chain, first_line
from fsearch.tasks.sources.rows import DataRefused, Rows

FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
"""Suffixes of files and how `datasets` calls what is in them."""

_JSON = (".jsonl", ".json")
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")
"""What `datasets` says of tables without rows."""


def read(
    what: str,
    format: str,
    files: Sequence[Path],
    scratch: Path,
    options: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
) -> Rows:
    """The rows of `files`, one after the other; `scratch` has to be there as long as they are used.

    `what` they are is for sentences; `options` are those of the format, `features` the types of the
    columns where they are known. Raises DataRefused for files that cannot be parsed or have no rows.
    """
    hub_client.set_up()  # not to ask it anything: `datasets` reads the switches too
    import datasets

    if fault := next(filter(None, map(_undecodable_line, files)), ""):
        raise DataRefused(f"{what} cannot be read as {format}: {fault}.")
    try:
        table: Any = datasets.load_dataset(
            format,
            data_files=[glob.escape(str(file)) for file in files],
            split="train",
            cache_dir=str(scratch),
            features=None if features is None else datasets.Features.from_dict(dict(features)),
            **(options or {}),
        )
    except Exception as error:
        links = chain(error)
        if any(isinstance(link, MemoryError) or getattr(link, "errno", None) is not None for link in links):
            raise
        if any(words in str(link) for link in links for words in _NO_ROWS):
            raise DataRefused(f"{what} has no rows.") from error
        reason = next(filter(None, map(_broken_line, files)), "") or first_line(links[-1])
        raise DataRefused(f"{what} cannot be read as {format}: {reason}.") from error
    if not len(table):
        raise DataRefused(f"{what} has no rows.")
    rows: Rows = table
    return rows


def _undecodable_line(path: Path) -> str:
    """Where a file of JSON is not in UTF-8, which `datasets` finds out only when the row is looked at."""
    if path.suffix not in _JSON:
        return ""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number} of {path.name}: {error}"
    return ""


def _broken_line(path: Path) -> str:
    """Where a file of JSON stops being that; empty if it does not, or is something else."""
    if path.suffix not in _JSON:
        return ""
    with open(path, "rb") as file:
        whole = file.read(1) == b"["  # one array, which need not keep to lines
        file.seek(0)
        for number, part in enumerate([file.read()] if whole else file, 1):
            try:
                if part.strip() and not isinstance(json.loads(part), list if whole else dict):
                    return f"line {number} of {path.name} is not an object"
            except ValueError as error:
                return f"{path.name}: {error}" if whole else f"line {number} of {path.name}: {error}"
    return ""
