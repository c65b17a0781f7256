"""Rows of one's own files, in every format, and every way in which such a file can be wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsearch.tasks.prepared import prepare
from fsearch.tasks.sources import DataRefused, Sources
from tests.hub import parquet

ROWS = [{"text": f"line {i}, “quoted”", "label": ["yes", "no", "NA"][i % 3]} for i in range(30)]


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    with Sources(tmp_path / "cache") as sources:
        yield sources


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(rows: list[dict[str, Any]], mark: str) -> bytes:
    quoted = [[f'"{value}"' for value in row.values()] for row in rows]
    return "\n".join(mark.join(cells) for cells in [list(rows[0]), *quoted]).encode()


FORMATS = {
    "rows.jsonl": lines(ROWS),
    "rows.JSONL": lines(ROWS),
    "rows.json": json.dumps(ROWS).encode(),
    "rows.parquet": parquet(ROWS),
    "rows.csv": separated(ROWS, ","),
    "rows.tsv": separated(ROWS, "\t"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format(name: str, sources: Sources, tmp_path: Path) -> None:
    """The rows as they were written, "NA" a word like others; the file's hash and whole path as origin."""
    folder = tmp_path / "odd [a] *"
    folder.mkdir()
    path = folder / name
    path.write_bytes(FORMATS[name])
    rows = sources.local(path)
    assert [dict(rows[i]) for i in range(len(rows))] == ROWS
    (origin,) = sources.origins
    assert origin.name == str(path) and origin.sha256 == hashlib.sha256(FORMATS[name]).hexdigest()
    assert sources.local(path) is rows and len(sources.origins) == 1


REFUSED = {
    "gone.jsonl": (None, r"cannot be opened \(No such file or directory\)"),
    "empty.jsonl": (b"", "is empty"),
    "blank.jsonl": (b"\n\n", "has no rows"),
    "broken.jsonl": (lines(ROWS[:2]) + b'{"text": \n' + lines(ROWS[2:]), r"line 3 of broken\.jsonl: "),
    "latin.jsonl": (
        lines(ROWS[:1]) + '{"text": "é"}\n'.encode("latin-1"),
        r"line 2 of latin\.jsonl: .*utf-8",
    ),
    "numbers.jsonl": (b"1\n2\n", "line 1 of numbers.jsonl is not an object"),
    "broken.json": (b'[{"text": "a"},\n {"text" "b"}]', r"line 2 column"),
    "uneven.csv": (b"a,b\n1,2\n1,2,3,4\n", "line 3"),
    "header.csv": (b"a,b\n", "has no rows"),
    "none.parquet": (parquet(ROWS[:0]), "has no rows"),
    "cut.parquet": (parquet(ROWS)[:-20], "cannot be read as parquet"),
    "rows.txt": (b"text", r"Give one of \.parquet, \.jsonl"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(name: str, sources: Sources, tmp_path: Path) -> None:
    """With its path, and its line where there is one."""
    content, words = REFUSED[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataRefused, match=words) as caught:
        sources.local(path)
    assert str(path) in str(caught.value)


def test_a_file_that_changes_is_prepared_again(tmp_path: Path) -> None:
    """Prepared data of what was in the file before are not those that are asked for; back again, they are."""
    path = tmp_path / "rows.jsonl"
    arguments = {"data": str(path), "prompt": "{text}", "answer": "{label}", "tokenizer": "bytes"}
    arguments |= {"n_train": 10, "n_val": 4, "val_share": 0.4}

    def sha256(rows: list[dict[str, Any]]) -> str:
        path.write_bytes(lines(rows))
        return prepare("sft", arguments, 1, tmp_path / "cache").meta.sha256

    first = sha256(ROWS)
    prepared = next((tmp_path / "cache").glob("sft-*"))
    made_ns = prepared.stat().st_mtime_ns
    assert sha256(ROWS) == first and prepared.stat().st_mtime_ns == made_ns
    assert sha256(ROWS[1:]) != first
    assert sha256(ROWS) == first
    path.unlink()
    with pytest.raises(DataRefused, match="cannot be opened"):
        prepare("sft", arguments, 1, tmp_path / "cache")
