"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Several processes share the cores: a thread that spins while it waits for another keeps that one waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

COSTLY = ("kernels/test_cuda_build.py", "end_to_end/", "docs/", "train/", "ui/")
"""Where the files that take longest are: first, so that no core is left alone with one at the end."""


@pytest.hookimpl(trylast=True)  # after the order of fixtures
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix()
        return next((place for place, start in enumerate(COSTLY) if name.startswith(start)), len(COSTLY))

    items.sort(key=rank)  # files stay together, and tests in their order


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled kernel, built once and loaded into this process; with CUDA kernels where there is a GPU.

    FSEARCH_KERNEL_CACHE names a folder to keep it in between runs of the tests.
    """
    import torch

    from fsearch.kernels import build, load

    named, folder = os.environ.get("FSEARCH_KERNEL_CACHE"), tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers share, so that the first one builds for all
    cache = Path(named) if named else folder / "kernels"
    library = build.build(cache, cuda=build.native_targets() if torch.cuda.is_available() else ()).library
    load(library)
    if torch.cuda.is_available():
        build.build(cache)  # beside it, for the runs that train on the CPU
    return library
