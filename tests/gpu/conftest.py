"""These tests need a GPU and nvcc; where there is none each of them is skipped and says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.train.conftest import data, make_job
from tests.train.processes import ZygoteProcess, zygote

__all__ = ["data", "make_job"]  # fixtures


@pytest.fixture
def gpu(kernel_library: Path) -> torch.device:
    """The GPU, with our CUDA kernels loaded."""
    from fsearch.kernels import library

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    assert library.has_cuda(), "the kernel library was built without CUDA kernels: is nvcc installed?"
    return torch.device("cuda")


@pytest.fixture(scope="session")
def kernel_arguments(kernel_library: Path) -> list[str]:
    """Where a job process finds the kernel that was built for this GPU. Without a GPU: skipped."""
    from fsearch.kernels import build

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    return ["--kernel-cache", str(kernel_library.parent), "--cuda", *build.native_targets()]


@pytest.fixture(scope="session")
def gpu_zygote(
    tmp_path_factory: pytest.TempPathFactory, kernel_arguments: list[str]
) -> Iterator[ZygoteProcess]:
    """A zygote whose workers train on the GPU."""
    with zygote(tmp_path_factory.mktemp("zygote"), *kernel_arguments) as started:
        yield started


@pytest.fixture(scope="session")
def with_gpus() -> dict[str, str]:
    """What a run needs to see the GPUs that the tests see: other runs of the tests are kept from them."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(64))) if seen is None else seen}
