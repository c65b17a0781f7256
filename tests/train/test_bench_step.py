"""What the benchmark of the step measures and how it adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsearch.rwkv7 import RWKV7
from fsearch.train import model_flop
from fsearch.train.step_measurement import shares_by_operator
from tests.train.processes import run_cold, start_cold


def test_shares_by_hand() -> None:
    """Each kind's own seconds over all seconds; what is of no kind, or in no operator, is the rest."""
    taken = [
        ("fsearch::wkv7_forward", 1.0),
        ("fsearch::wkv7_backward", 2.0),
        ("fsearch::future_seed", 0.25),
        ("aten::mm", 4.0),
        ("aten::addmm", 0.5),
        ("aten::copy_", 0.25),
        ("aten::_fused_adamw_", 0.5),
        ("aten::mul", 1.0),
    ]
    assert shares_by_operator(taken, 10.0) == pytest.approx(
        {"kernel": 0.3, "matrix_products": 0.45, "copies_and_casts": 0.025, "adamw": 0.05, "rest": 0.175}
    )


def test_operations_by_hand() -> None:
    """Two layers of width 32 in heads of 8, ranks 16, a vocabulary of 10: 7 tokens, 3 of them targets."""
    model = RWKV7(n_layer=2, n_embd=32, head_size=8, vocab_size=10)
    c, rank = 32, 16
    layer = 4 * c * c + 8 * c * c + 3 * 2 * c * rank  # r, k, v, output; channel mix; w, a, g
    forward = 7 * (2 * (2 * layer + 2 * c * rank) + 2 * 9 * 4 * 8 * 8) + 3 * 2 * 10 * c
    assert model_flop.of_step(model, 7, 3) == 3 * forward


def test_stated_peaks() -> None:
    """Known by the driver's name alone: a sister of a known card may be another one."""
    assert model_flop.stated_peak("NVIDIA H200", "bf16") == 989e12
    assert model_flop.stated_peak("NVIDIA H200 NVL", "bf16") is None
    assert model_flop.stated_peak(None, "fp32") is None


@pytest.fixture
def job(kernel_library: Path) -> dict[str, Any]:
    """A quick measurement."""
    return {
        "shape": "demo",
        "cases": [{"contender": "scalar_l1_nodetach", "batch": 3, "tokens": 9}],
        "peak": False,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "cache": str(kernel_library.parent),
    }


def test_a_step_is_that_of_a_training(job: dict[str, Any], tmp_path: Path) -> None:
    """The model has the demo's parameters, a quarter of the tokens are targets, and steps learn them."""
    worker, process = start_cold("bench_step", job, tmp_path)
    assert worker.finish()["outcome"] == "completed"
    assert process.wait() == 0
    (setting,) = [message["setting"] for message in worker.messages if message["type"] == "setting"]
    (row,) = [message["row"] for message in worker.messages if message["type"] == "row"]
    assert (setting["parameters"], setting["targets"]) == (parameters_of_the_demo(), 3 * 2)
    assert setting["kernel"] != "torch-chunked"
    assert row["loss"] < 2.3  # ln 10 at step 0


def parameters_of_the_demo() -> int:
    """Counted by hand: three layers of width 32, ranks 16, vocabulary 10."""
    c, rank, heads_by_size = 32, 16, 32
    adapters = 3 * 2 * c * rank + 2 * c  # w, a, g; offsets of w and a
    residual_adapter = 2 * c * rank + c  # v, from layer 1 on
    att = 6 * c + adapters + 2 * c + heads_by_size + 4 * c * c + 2 * c
    ffn = c + 8 * c * c
    norms = 4 * c
    return 3 * (att + ffn + norms) + 2 * residual_adapter + 2 * c + 2 * c + 2 * 10 * c


def test_no_compiler_is_a_result(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a kernel nothing is measured, and the result says why."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = run_cold("bench_step", {**job, "cache": str(tmp_path / "empty")}, tmp_path)
    assert result["outcome"] == "kernel_build_failed"
    assert "'no-such-compiler'" in result["reason"]
