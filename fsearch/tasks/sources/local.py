"""The rows of a file of one's own: .jsonl, .json, .parquet, .csv or .tsv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsearch.system.files import sha256_file
from fsearch.tasks.sources import reader
from fsearch.tasks.sources.rows import DataRefused, Origin, Rows

_OPTIONS: dict[str, dict[str, Any]] = {
    ".csv": {"keep_default_na": False, "na_values": [""]},  # only an empty cell is None: "NA" is a word
    ".tsv": {"keep_default_na": False, "na_values": [""], "sep": "\t"},
}


def read(path: Path, scratch: Path) -> tuple[Rows, Origin]:
    """The rows of a file, and what they were read from; `scratch` has to be there as long as they are used.

    Raises DataRefused for a file that is missing, cannot be opened or parsed, or has no rows.
    """
    path = path.absolute()
    suffix = path.suffix.lower()
    if suffix not in reader.FORMATS:
        raise DataRefused(
            f"{path}: there are no rows in a file of this kind. Give one of {', '.join(reader.FORMATS)}."
        )
    try:
        sha256 = sha256_file(path)
        empty = not path.stat().st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise DataRefused(f"{path} cannot be opened ({error.strerror}).") from error
    if empty:
        raise DataRefused(f"{path} is empty.")
    rows = reader.read(str(path), reader.FORMATS[suffix], [path], scratch, _OPTIONS.get(suffix))
    return rows, Origin(name=str(path), sha256=sha256)
