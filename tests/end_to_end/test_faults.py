"""Every way in which an attempt can fail, at every phase, through the real daemon: the outcome, its class and
sentence, the number of tries, and that whatever comes after it has the numbers of a run without faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fsearch.daemon.logs import HEAD_BYTES, TAIL_BYTES
from fsearch.search.outcomes import CLASSES
from fsearch.search.rows import Attempt
from tests.end_to_end.runs import attempts, new_state, numbers, run_of, standing

PLAN = """
name: faults
seed: 0
model: {{init: {{n_layer: 2, n_embd: 16, head_size: 8}}}}
train: {{lr: 2.0e-2}}
stages:
  - {{name: quick, steps: 6}}
  - {{name: medium, steps: 2, seeds: 3}}
screen: {{prune_below: 0.45}}
variants:
{variants}
tasks:
  - {{task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 128, n_val: 32, batch: 16}}
"""

LIMIT_S = 900.0
"""Only a guard against hanging for ever; seventy failures in a row take some minutes."""

DEADLINE_S = 10
"""After so much silence a process is ended, in these tests; far more than any phase of them takes."""


@dataclass(frozen=True)
class Fault:
    """What one variant meets, in its first try or in every one, and what must come of it."""

    kind: str
    at: str
    word: str
    pattern: str = ""  # is in the row's
    says: str = ""  # is in its reason
    always: bool = False
    step: int | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.at}{'_always' * self.always}"

    @property
    def words(self) -> list[str]:
        """The outcomes of its tries."""
        if CLASSES[self.word] in ("configuration", "result"):
            return [self.word]
        return [self.word, self.word] if self.always else [self.word, "completed"]

    def asked(self, alpha: float) -> dict[str, object]:
        job: dict[str, object] = {"role": "screen", "form": {"alpha": alpha}}
        fault: dict[str, object] = {"kind": self.kind, "at": self.at}
        if not self.always:
            job["try"] = 1
        if self.step is not None:
            fault["step"] = self.step
        return {**fault, "job": job}


POINTS = ("load", "step", "update", "evaluate", "finish")


def fault(kind: str, at: str, always: bool = False) -> Fault:
    word, pattern, says = {
        "oom": ("oom", "OutOfMemory", "out of memory"),
        "memory_error": ("oom", "OutOfMemory", "out of memory"),
        "device_assert": ("crashed", "device-side assert", "the GPU stopped the kernel"),
        "poisoned": ("crashed", "illegal memory access", "the GPU stopped the kernel"),
        "exception": ("crashed", "any", "a mistake in the code; the log has the traceback"),
        "disk_full": ("disk_full", "No space left", "the disk is full"),
        "nan": ("diverged", "result", "nan"),
        "segfault": ("crashed", "signal SIGSEGV", "died of SIGSEGV"),
        "abort": ("crashed", "signal SIGABRT", "died of SIGABRT"),
        "exit": ("crashed", "no result", "ended without a result (exit code 0)"),
        "torn": ("crashed", "torn result", "ended with a torn result"),
        "hang": ("hang", "silent", "no progress for"),
        "killed": ("interrupted", "killed from outside", "SIGKILL"),
        "flood": ("completed", "result", ""),
    }[kind]
    if kind == "nan" and at != "step":
        says = "not finite"
    step = {"step": 3, "update": 1}.get(at)  # the optimizer takes its memory in its first step
    return Fault(kind, at, word, pattern, says, always, step)


KINDS = ("oom", "memory_error", "device_assert", "poisoned", "exception", "disk_full", "segfault", "abort")
KINDS += ("exit", "torn", "killed")
SOME = [
    fault("oom", "update"),
    fault("memory_error", "load"),
    fault("poisoned", "step"),
    fault("disk_full", "step"),
    fault("nan", "step"),
    fault("segfault", "step"),
    fault("exit", "evaluate"),
    fault("torn", "finish"),
    fault("killed", "evaluate"),
    fault("hang", "step"),
    fault("device_assert", "step", always=True),
]
ALL = [
    *(fault(kind, at) for kind in KINDS for at in POINTS),
    *(fault(kind, at) for kind in ("nan",) for at in ("step", "update", "evaluate")),
    *(fault("hang", at) for at in POINTS),
    fault("flood", "step"),
    *(fault(kind, "step", always=True) for kind in ("poisoned", "exception", "segfault", "exit", "hang")),
]


def plan_of(faults: Sequence[Fault], folder: Path) -> tuple[Path, str]:
    """A plan with a variant for each fault, and the variable that asks for them."""
    alphas = [-8.0 - index / 64 for index in range(len(faults))]
    lines = [
        f"  - {{name: {one.name}, gate: scalar, alpha: {alpha}}}"
        for one, alpha in zip(faults, alphas, strict=True)
    ]
    plan = folder / "faults.yaml"
    plan.write_text(PLAN.format(variants="\n".join(lines)))
    return plan, json.dumps([one.asked(alpha) for one, alpha in zip(faults, alphas, strict=True)])


def check(faults: Sequence[Fault], folder: Path, kernel_library: Path) -> Path:
    """Run a plan with these faults and without; gives the state of the run with them."""
    plan, asked = plan_of(faults, folder)
    states = []
    for name, environment in (
        ("quiet", {}),
        ("faulty", {"FSEARCH_TEST_FAULT": asked, "FSEARCH_DEADLINE_S": str(DEADLINE_S)}),
    ):
        (folder / name).mkdir()
        state = new_state(folder / name, kernel_library)
        with run_of(state, plan, environment=environment) as run:
            run.start()
            assert run.wait(LIMIT_S) == 0, run.told()
            assert run.processes() == []
        states.append(state)
    quiet, faulty = states
    by_variant: dict[str, list[Attempt]] = {}
    for row in attempts(faulty):
        if row.spec.role == "screen":
            by_variant.setdefault(row.spec.variant, []).append(row)
    for one in faults:
        tries = by_variant[one.name]
        assert [row.outcome for row in tries] == one.words, (one.name, [row.reason for row in tries])
        struck = tries[: len(tries) - (len(one.words) == 2 and not one.always)]
        for row in struck:
            assert row.outcome_class == CLASSES[one.word]
            assert one.pattern in row.pattern and one.says in row.reason, (one.name, row.pattern, row.reason)
    expected, found = numbers(quiet), numbers(faulty)
    completed = {identity for identity, line in found.items() if line["outcome"] == "completed"}
    assert {identity: found[identity] for identity in completed} == {
        identity: expected[identity] for identity in completed
    }
    rows = [row for row in attempts(faulty) if row.spec.role == "screen"]
    assert {(row.spec.batch, row.spec.micro_batch) for row in rows} == {(16, 16)}  # both arms alike
    (board,) = standing(faulty, plan).boards
    left = {entry.variant.name: entry.exit for entry in board.variants}
    assert left == {one.name: "pruned" if one.words[-1] == "completed" else "failed" for one in faults}
    return faulty


def test_some_failures(tmp_path: Path, kernel_library: Path) -> None:
    """Each kind once, at one phase or another, in one run."""
    check(SOME, tmp_path, kernel_library)


@pytest.mark.long
def test_all_failures_at_all_phases(tmp_path: Path, kernel_library: Path) -> None:
    """Every kind at every phase; a flood of a gigabyte leaves a log of limited size and a run as ever."""
    state = check(ALL, tmp_path, kernel_library)
    (flooded,) = (row.spec.id for row in attempts(state) if row.spec.variant == "flood_step")
    size = (state / "logs" / f"{flooded}-1.log").stat().st_size
    assert HEAD_BYTES < size < HEAD_BYTES + TAIL_BYTES + 100
