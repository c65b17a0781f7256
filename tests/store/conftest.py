"""A place for a record that other users can look into."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a record goes; its folder does not exist yet."""
    return tmp_path / "state" / "fsearch.db"


FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def released(path: Path) -> Path:
    """The record of the first released schema, from its dump."""
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.executescript((FIXTURES / "schema_0001.sql").read_text())
    database.close()
    return path


@pytest.fixture
def released_run(path: Path) -> Path:
    """The file that the last release with the first schema wrote when it ran a plan: two searches, one of
    which could not have its data. The names of its machine and folders were taken out."""
    path.parent.mkdir()
    path.write_bytes(gzip.decompress((FIXTURES / "schema_0001_run.db.gz").read_bytes()))
    return path


@pytest.fixture
def public_path() -> Iterator[Path]:
    """The same in a folder that every user may enter (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="fsearch-test-"))
    folder.chmod(0o755)
    yield folder / "state" / "fsearch.db"
    shutil.rmtree(folder)
