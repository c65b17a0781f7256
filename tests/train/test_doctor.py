"""What `fsearch doctor` asks of torch and the compilers, as far as it takes no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fsearch.train import doctor

NVCC = """\
#!/bin/sh
cat <<END
nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Wed_Jan_15_19:20:09_PST_2025
Cuda compilation tools, release 12.8, V12.8.61
Build cuda_12.8.r12.8/compiler.35404655_0
END
"""


class Told(dict[str, tuple[str, ...]]):
    """The findings by name."""

    def __call__(self, name: str, *said: str) -> None:
        self[name] = said


@pytest.fixture
def told() -> Told:
    return Told()


def test_nvcc(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its release, and what to install where it is missing; without a GPU it is not asked for."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(NVCC)
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    doctor._toolchain(["sm_90"], told)
    assert told["CUDA toolkit"] == ("ok", f"{nvcc}: Cuda compilation tools, release 12.8, V12.8.61")
    assert told["C++ compiler"][0] == "ok"
    monkeypatch.setenv("CUDACXX", str(tmp_path / "none"))
    doctor._toolchain(["sm_90"], told)
    level, found, todo = told["CUDA toolkit"]
    assert level == "fail" and "was not found" in found and todo.startswith("install the CUDA toolkit")
    doctor._toolchain([], told)
    assert told["CUDA toolkit"] == ("ok", "not needed, because no GPU is used")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU here")
def test_a_gpu_that_torch_cannot_use(told: Told) -> None:
    """Torch's own words; one that a run uses is not tried at all."""
    job: dict[str, Any] = {"cuda": ["sm_90"], "busy": False}
    assert not doctor._torch(job, told)
    level, found, todo = told["torch"]
    assert level == "fail" and "it cannot use the GPU (" in found and "install another torch" in todo
    assert doctor._torch({**job, "busy": True}, told)
    assert told["torch"][0] == "ok" and told["torch"][1].endswith("not tried, because a run uses it")


def test_the_self_test(kernel_library: Path) -> None:
    """Every output and gradient is compared, and off by no more than rounding."""
    errors = doctor._errors(torch.device("cpu"), "cpu")
    assert set(errors) == {"y", "cap", "dr", "dw", "dk", "dv", "da", "db", "ds0"}
    assert 0 < max(errors.values()) < 1e-5
