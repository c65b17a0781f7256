"""Who holds a GPU's memory, decided from one reading; and what that makes of an attempt that ran out."""

from __future__ import annotations

import pytest
import torch

from fsearch.daemon.card import NOTICED_MIB, left_behind, others_mib
from fsearch.daemon.nvml import Reading
from fsearch.daemon.outcomes import Ending, outcome_of

WORKER, OTHER = 4711, 815
LEVEL = 500.0


@pytest.mark.parametrize(
    ("reading", "worker", "others"),
    [
        (Reading(used_mib=500), None, 0),
        (Reading(used_mib=480), None, 0),  # less than at the start is nobody's
        (Reading(used_mib=3500), None, 3000),
        (Reading(used_mib=20500, processes={WORKER: 20000}), WORKER, 0),
        (Reading(used_mib=23500, processes={WORKER: 20000, OTHER: 3000}), WORKER, 3000),
        (Reading(used_mib=23500, processes={OTHER: 3000}), WORKER, 0),  # pids of another namespace
        (Reading(used_mib=23500, processes={WORKER: None}), WORKER, 0),
        (Reading(), None, 0),
        (Reading(), WORKER, 0),
    ],
)
def test_memory_of_others(reading: Reading, worker: int | None, others: float) -> None:
    """All that is in use, less our own and less what was in use at the start; 0 where that is not known."""
    assert others_mib(reading, worker, LEVEL) == others
    assert others_mib(reading, worker, None) == 0


def test_what_the_last_attempt_has_left_behind() -> None:
    """Its process in the list, or memory above the level; a little more than the level is nothing."""
    listed = left_behind(Reading(used_mib=500, processes={WORKER: 0.0}), WORKER, LEVEL)
    assert listed == f"process {WORKER}, the attempt before, has not left the GPU"
    held = left_behind(Reading(used_mib=3500, processes={OTHER: 3000}), WORKER, LEVEL)
    assert held == "3500 MiB of the GPU are in use, 500 MiB when fsearch started"
    assert left_behind(Reading(used_mib=LEVEL + NOTICED_MIB), WORKER, LEVEL) is None
    assert left_behind(Reading(), WORKER, LEVEL) is None


def error(exception: str, message: str) -> dict[str, object]:
    return {"exception": exception, "message": message, "phase": "train", "chain": []}


@pytest.mark.parametrize(
    ("exception", "message"),
    [
        ("fsearch.train.memory.OutOfMemory", "out of memory with 8 examples of up to 300 tokens"),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ("torch.AcceleratorError", "CUDA error: out of memory"),
    ],
)
def test_oom_beside_others_closes_nothing(exception: str, message: str) -> None:
    """Out of memory is the attempt's own fault only if nobody has taken what was free at the start."""
    alone = Ending(error=error(exception, message), exit_code=1, phase="train")
    assert (outcome_of(alone).word, outcome_of(alone).outcome_class) == ("oom", "configuration")
    little = Ending(error=alone.error, exit_code=1, phase="train", others_mib=NOTICED_MIB)
    assert outcome_of(little).word == "oom"
    beside = outcome_of(Ending(error=alone.error, exit_code=1, phase="train", others_mib=3000.0))
    assert (beside.word, beside.outcome_class) == ("gpu_contended", "infrastructure")
    assert message in beside.reason and "3000 MiB" in beside.reason
    assert beside.pattern == f"{outcome_of(alone).pattern}, memory of others"


def test_others_change_no_other_outcome() -> None:
    """A result stays a result, a crash a crash."""
    result = {"outcome": "completed", "reason": "5 steps"}
    assert outcome_of(Ending(result=result, exit_code=0, others_mib=9000)).word == "completed"
    assert outcome_of(Ending(signal=11, others_mib=9000)).word == "crashed"


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: unknown error",
        "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env",
        "No CUDA GPUs are available",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: hardware stack error",
        "CUDA error: system not yet initialized",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
    ],
)
def test_a_gpu_that_fails_is_lost(message: str) -> None:
    """What CUDA says of the card, the bus or the driver is infrastructure, and is tried again."""
    outcome = outcome_of(Ending(error=error("RuntimeError", message), exit_code=1, phase="train"))
    assert (outcome.word, outcome.outcome_class) == ("gpu_lost", "infrastructure")
    assert message.strip() in outcome.reason


def test_nvml_says_that_the_gpu_is_lost() -> None:
    """A worker that was ended for it is no hang and no kill from outside; a complete result counts."""
    ended = outcome_of(Ending(signal=9, gpu_lost=True, silent_s=901.0, phase="train"))
    assert (ended.word, ended.outcome_class) == ("gpu_lost", "infrastructure")
    result = {"outcome": "completed", "reason": "5 steps"}
    assert outcome_of(Ending(result=result, exit_code=0, gpu_lost=True)).word == "completed"


def test_a_gpu_in_exclusive_use_is_contended() -> None:
    """In exclusive mode another process keeps ours out."""
    message = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    assert outcome_of(Ending(error=error("RuntimeError", message), exit_code=1)).word == "gpu_contended"


def test_a_kernel_that_goes_wrong_is_no_lost_gpu() -> None:
    """What our own code may have done is a crash, which is tried once more."""
    for message in ("CUDA error: device-side assert triggered", "CUDA error: unspecified launch failure"):
        outcome = outcome_of(Ending(error=error("RuntimeError", message), exit_code=1, phase="train"))
        assert (outcome.word, outcome.outcome_class) == ("crashed", "unknown")
    assert issubclass(torch.AcceleratorError, RuntimeError)
