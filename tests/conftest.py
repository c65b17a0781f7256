"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Several processes share the cores: a thread that spins while it waits for another keeps that one waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


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
