"""A place for a record that other users can look into."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a record goes; its folder does not exist yet."""
    return tmp_path / "state" / "fsearch.db"


@pytest.fixture
def public_path() -> Iterator[Path]:
    """The same in a folder that every user may enter (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="fsearch-test-"))
    folder.chmod(0o755)
    yield folder / "state" / "fsearch.db"
    shutil.rmtree(folder)
