"""These tests need a GPU and nvcc; where there is none each of them is skipped and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture
def gpu(kernel_library: Path) -> torch.device:
    """The GPU, with our CUDA kernels loaded."""
    from fsearch.kernels import library

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    assert library.has_cuda(), "the kernel library was built without CUDA kernels: is nvcc installed?"
    return torch.device("cuda")
