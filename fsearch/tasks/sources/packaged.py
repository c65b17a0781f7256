"""The tables that come with fsearch: compressed JSON lines in fsearch/tasks/data, read whole."""

from __future__ import annotations

import gzip
import hashlib
import json
from importlib.resources import files
from importlib.resources.abc import Traversable

from fsearch.tasks.sources.rows import DataRefused, Origin, Rows


def read(name: str) -> tuple[Rows, Origin]:
    """The rows of the table `name`, and what they were read from. Raises DataRefused where it is missing."""
    path = files("fsearch.tasks") / "data" / f"{name}.jsonl.gz"
    try:
        return compressed_rows(path, f"fsearch: {name}")
    except FileNotFoundError:
        raise DataRefused(f"{path}, which comes with fsearch, is not there. Install fsearch again.") from None


def compressed_rows(path: Traversable, name: str) -> tuple[Rows, Origin]:
    """The rows of a .jsonl.gz file, which is called `name` in their origin. Raises OSError."""
    content = path.read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    return rows, Origin(name=name, sha256=hashlib.sha256(content).hexdigest())
