"""The daemon's memory over ten thousand attempts, with stand-ins training."""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from pathlib import Path

import pytest

from fsearch.system.memory import kib_in
from tests.end_to_end.runs import assert_whole, attempts
from tests.end_to_end.stub_runs import STUB_PROGRAMS, Run

PLAN = """
name: many
seed: 0
model: {{init: {{n_layer: 2, n_embd: 16, head_size: 8}}}}
train: {{lr: [{rates}]}}
stages:
  - {{name: quick, steps: 2}}
  - {{name: medium, steps: 2, seeds: 3}}
screen: {{prune_below: 0.0, promote_at_most: 10}}
variants: [{variants}]
tasks:
  - {{task: kv_recall, order: q_after, n_train: 64, n_val: 32, batch: [8, 16]}}
"""
ATTEMPTS = 10_000
A_SEARCH = 1 + 1 + 30 + 3 * 11
"""About so many: a probe, a baseline, the variants; a baseline and ten variants on three seeds."""

_ATTEMPT = re.compile(r"^\[", re.MULTILINE)  # a line of the run's output

MOST_KIB_AN_ATTEMPT = 1.5
"""What the outlines of searches that have ended take; a row that stays is 4 KiB, a job or a log more."""


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Between a tenth of the plan and its end the daemon grows by less than the rows, and evenly: not faster
    in the second half than in the first."""
    rates = ", ".join(f"{1e-5 * (1 + n / 100):.7f}" for n in range(ATTEMPTS // A_SEARCH // 2))
    variants = ", ".join(f"{{name: v{n}, alpha: {n / 10 - 2:.1f}, layer_start: 1}}" for n in range(30))
    plan, state = tmp_path / "plan.yaml", tmp_path / "state"
    plan.write_text(PLAN.format(rates=rates, variants=variants))
    (tmp_path / "locks").mkdir()
    samples: list[tuple[int, float]] = []  # attempts, MiB
    with_stubs = {**STUB_PROGRAMS, "FSEARCH_STUB": "0"}
    run = Run(state, plan, environment=with_stubs)
    run.start()
    while run.process is not None and run.process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            size_mib = kib_in(Path(f"/proc/{run.pid}/status"), "VmRSS") / 1024
            samples.append((len(_ATTEMPT.findall(run.output.read_text())), size_mib))
        time.sleep(0.5)
    assert run.wait() == 0, run.told()
    assert_whole(state)
    rows, logged = attempts(state), max(lines for lines, _ in samples)
    assert len(rows) >= 0.8 * ATTEMPTS

    def mib(part: float) -> float:
        middle = [size for lines, size in samples if abs(lines / logged - part) < 0.05]
        return statistics.median(middle)

    early, half, late = mib(0.1), mib(0.5), mib(0.95)
    print(f"{len(rows)} attempts: {early:.0f} MiB after a tenth, {half:.0f} half-way, {late:.0f} at the end")
    assert (late - early) * 1024 / (0.85 * len(rows)) < MOST_KIB_AN_ATTEMPT
    assert (late - half) / 0.45 < 1.5 * max(half - early, 4.0) / 0.4
