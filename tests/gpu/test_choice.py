"""Which CUDA kernel `impl="auto"` runs on a real GPU, and the table that `bench kernel --tune` makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fsearch.kernels import choice, library, tuning, wkv7_fs
from fsearch.kernels.library import Implementation
from tests.kernels.cases import random_case
from tests.ui.commands import fsearch

from .test_wkv7 import move


@pytest.fixture
def both(gpu: torch.device) -> torch.device:
    """The GPU, with a library that has v1 and v2."""
    if not library.has_cuda2():
        pytest.skip("the library has one CUDA kernel")
    return gpu


@pytest.mark.parametrize(
    ("dtype", "T", "N"),
    [
        (torch.bfloat16, 200, 64),
        (torch.bfloat16, 63, 64),
        (torch.bfloat16, 200, 32),
        (torch.float32, 200, 64),
    ],
)
def test_auto_runs_what_was_chosen(both: torch.device, dtype: torch.dtype, T: int, N: int) -> None:
    """To the bit what the chosen kernel gives, and never v2 where it has no part."""
    case = move(random_case(2, T, 2, N).to(dtype), both)
    impl: Implementation = library.chosen(both, dtype, (2, T, 2, N), "sigmoid")
    if T < choice.LEAST_TOKENS or not choice.v2_takes(str(dtype).removeprefix("torch."), N):
        assert impl == "cuda1"
    found, wanted = wkv7_fs(*case.tensors, case.p), wkv7_fs(*case.tensors, case.p, impl=impl)
    assert torch.equal(found[0], wanted[0])
    assert found[1] is not None and wanted[1] is not None and torch.equal(found[1], wanted[1])


def test_torch_compile_chooses(both: torch.device) -> None:
    """With "auto" inside, a compiled function has no break and gives the same bits."""
    case = move(random_case(2, 200, 2, 64).to(torch.bfloat16), both)

    def function(*xs: torch.Tensor) -> torch.Tensor:
        return wkv7_fs(*xs, case.p)[0]

    torch.compiler.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*case.tensors), function(*case.tensors))


def test_tuning(both: torch.device, kernel_library: Path, tmp_path: Path, with_gpus: dict[str, str]) -> None:
    """Both kernels are right at every shape, and a new process chooses by the table that is left."""
    cache = tmp_path / "state" / "cache" / "kernel"
    cache.mkdir(parents=True)
    copy = cache / kernel_library.name
    copy.write_bytes(kernel_library.read_bytes())
    asked = ["--quick", "--tune", "--device", "cuda:0", "--json", "found.json"]
    done = fsearch("bench", "kernel", *asked, cwd=tmp_path, **with_gpus)
    assert done.returncode == 0, done.stdout + done.stderr
    tuned = json.loads((tmp_path / "found.json").read_text())["tuning"]
    table = tuning.read(copy)
    assert len(table) == 24 and {one.architecture for one in table} == {library.architecture(0)}
    assert tuned["name"] == choice.name(table, has_v2=True)
    again = fsearch(
        "bench", "kernel", "--quick", "--device", "cuda:0", "--json", "again.json", cwd=tmp_path, **with_gpus
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((tmp_path / "again.json").read_text())["kernel"] == tuned["name"]
