"""Both implementations of the recurrence, each for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fsearch import kernels


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These models are too small for threads: with several, a busy machine waits at every operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["auto", "chunked"])
def backend(request: pytest.FixtureRequest, kernel_library: Path) -> Iterator[str]:
    """What `kernels.use` was given: "auto" for the compiled kernel, "chunked" for the portable one."""
    kernels.use(request.param)
    yield request.param
    kernels.use("auto")
