"""The stand-in, compiled once; every test has answers of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.nvml.standin import StandIn, compiled, gpu


@pytest.fixture(scope="session")
def library_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library_folder: Path, tmp_path: Path) -> StandIn:
    """A machine with one GPU."""
    folder = tmp_path / "nvml"
    shutil.copytree(library_folder, folder)
    found = StandIn(folder)
    found.says(gpu())
    return found
