"""The objects for narrower instruction sets, which this machine would not choose by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys, torch
from pathlib import Path
from fsearch.kernels import HEAD_SIZES, backend, load
from tests.kernels.cases import TOLERANCE, random_case
from tests.kernels.test_accuracy import assert_within, errors_of
load(Path(sys.argv[1]))
for N in HEAD_SIZES:
    assert_within(errors_of(random_case(2, 35, 1, N), "cpu"), TOLERANCE)
    double = errors_of(random_case(2, 35, 1, N, dtype=torch.float64), "cpu")
    assert max(double.values()) < 1e-14, double
print(backend())
"""


CAPABILITIES = ("default", "avx2", "avx512")  # as PyTorch names them, each a superset of those before


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_each_object_is_exact(kernel_library: Path, capability: str) -> None:
    """Every object this machine can run keeps the tolerances in both precisions, at every head size."""
    best = torch.backends.cpu.get_cpu_capability().lower()
    if capability not in CAPABILITIES[: (CAPABILITIES.index(best) if best in CAPABILITIES else 0) + 1]:
        pytest.skip(f"this machine has no {capability}")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(kernel_library)],
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == {"default": "cpu-generic"}.get(capability, f"cpu-{capability}")
