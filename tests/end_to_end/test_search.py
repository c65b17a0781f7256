"""A whole search, seen from outside: what it finds, what it writes down, and what does not stop it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from fsearch.search.rows import Attempt
from fsearch.search.screening import MATCHED
from fsearch.store import Reader
from tests.end_to_end.conftest import Finished
from tests.end_to_end.runs import (
    assert_whole,
    attempts,
    daemon_of,
    events,
    new_state,
    run_of,
    standing,
    verdicts,
)

MIXED = """
name: mixed
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages:
  - {name: quick, steps: 20}
  - {name: medium, steps: 20, seeds: 3}
screen: {prune_below: 0.4}
variants:
  - {name: raw, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
tasks:
  - {task: infill, n_symbols: 2, n_masks: 2, n_left: 0, n_train: 64, n_val: 16, batch: 8}
  - task: infill
    n_symbols: 4
    n_masks: 4
    n_left: 2
    n_train: 256
    n_val: 32
    batch: 8
    train: {lr: 1.0, betas: [0.99, 0.0], weight_decay: 0.0, grad_clip: null, warmup: 0.0}
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 256, n_val: 32, batch: 8}
"""

CLUMSY_COMPILER = """#!/bin/sh
case "$*" in
*--version*) echo clumsy 1; exit;;
*/binding.cpp*) sleep 3; echo 'b.cpp:1: error: out of wits'; echo 'more words'; exit 1;;
esac
for word; do out=$word; done
touch "$out"
"""

SCREEN_ONLY = """
name: nothing passes
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages:
  - {name: quick, steps: 5}
  - {name: medium, steps: 5, seeds: 3}
screen: {prune_below: 0.4}
variants: [scalar_l1]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 256, n_val: 32, batch: 8}
"""


def test_the_strong_seed_is_found_and_the_weak_one_pruned(undisturbed: Finished) -> None:
    """The positive control ends as `at_least_delta`, the useless variant at the screen, the no-op by name,
    without training."""
    stands = standing(undisturbed.state, undisturbed.plan)
    assert stands.finished
    verdict = stands.verdicts[0, "raw"]
    assert (verdict.word, verdict.provisional) == ("at_least_delta", False)
    assert 0.02 < verdict.paired.low < verdict.paired.mean
    exits = {entry.variant.name: entry.exit for entry in stands.boards[0].variants}
    assert exits == {"raw": None, "weak": "pruned", "scalar_l2": "noop"}
    trained = [(row.spec.stage, row.spec.variant) for row in attempts(undisturbed.state)]
    assert ("medium", "weak") not in trained


def test_every_difference_is_between_matched_rows(undisturbed: Finished) -> None:
    """A pair differs in its variant and in nothing else; its difference is that of the recorded scores."""
    recorded = {row.spec.id: row for row in attempts(undisturbed.state)}
    board = standing(undisturbed.state, undisturbed.plan).boards[0]
    pairs = [(pair.row, pair.baseline, pair.difference) for pair in board.promoted[0].pairs]
    pairs += [(it.row, it.baseline, it.difference) for entry in board.variants for it in entry.screens]
    assert sorted(row.spec.seed for row, *_ in pairs) == [0, 0, 1, 2, 3]
    for row, baseline, difference in pairs:
        row, baseline = recorded[row.spec.id], recorded[baseline.spec.id]
        assert baseline.spec.form == {"gate": "none", "stream": 0} != row.spec.form
        for name in MATCHED:
            assert getattr(row.spec, name) == getattr(baseline.spec, name)
        assert row.fingerprint == baseline.fingerprint != ""
        assert row.score is not None and baseline.score is not None
        assert difference == row.score - baseline.score


def test_every_attempt_has_a_row(undisturbed: Finished) -> None:
    """Preparation, probe and no-op stand in the record like the rest, in the order of doing."""
    assert_whole(undisturbed.state)
    rows = attempts(undisturbed.state)
    done = [(row.spec.stage, row.spec.variant, row.spec.seed, row.outcome) for row in rows]
    assert done == [
        ("prepare", "", 0, "completed"),
        ("quick", "scalar_l2", 0, "noop"),
        ("probe", "raw", 0, "completed"),
        ("quick", "no_fs", 0, "completed"),
        ("quick", "raw", 0, "completed"),
        ("quick", "weak", 0, "completed"),
        *(("medium", name, seed, "completed") for seed in (1, 2, 3) for name in ("no_fs", "raw")),
    ]
    assert [row.sequence for row in rows] == sorted({row.sequence for row in rows})
    for row in rows:
        worked = row.outcome == "completed"
        assert (row.pid is not None) == worked and (row.pid_started is not None) == worked
    assert all(row.backend.startswith("cpu-") for row in rows if row.spec.steps and row.pid)
    left = [log.name for log in (undisturbed.state / "logs").iterdir()]
    assert left == ["zygote.log"], "an attempt that had nothing to say leaves no log"


def test_the_daemon_never_loads_torch_and_stays_small(
    undisturbed: Finished, record_property: Callable[[str, object], None]
) -> None:
    """At its end the process that ran the search has no torch in it and took less than 150 MiB."""
    modules = {name.split(".")[0] for name in undisturbed.measured["loaded"]}
    assert "fsearch" in modules and "torch" not in modules
    memory = undisturbed.measured["memory_kib"]
    assert memory["VmHWM"] < 150 * 1024
    record_property("peak_mib", memory["VmHWM"] / 1024)


def test_a_worker_imports_no_torch_module_after_its_fork(undisturbed: Finished) -> None:
    """The daemon warns of late imports of torch; there were none."""
    assert [event.text for event in events(undisturbed.state) if "after its fork" in event.text] == []


def test_a_finished_plan_is_not_run_again(undisturbed: Finished) -> None:
    """Starting once more adds no row and changes no verdict."""
    rows = attempts(undisturbed.state)
    found = verdicts(undisturbed.state, undisturbed.plan)
    with run_of(undisturbed.state, undisturbed.plan) as run:
        run.to_the_end()
    assert attempts(undisturbed.state) == rows
    assert verdicts(undisturbed.state, undisturbed.plan) == found
    assert daemon_of(undisturbed.state).ended


def test_a_search_that_cannot_be_done_does_not_stop_the_others(tmp_path: Path, kernel_library: Path) -> None:
    """Too few examples and a diverging baseline end their own search with a reason; the exit code is 0."""
    plan = tmp_path / "mixed.yaml"
    plan.write_text(MIXED)
    state = new_state(tmp_path, kernel_library)
    with run_of(state, plan) as run:
        run.to_the_end()
    assert_whole(state)
    short, diverging, good = standing(state, plan).boards
    assert "data_short" in short.failed and "of 64 training examples" in short.failed
    assert "diverged" in diverging.failed and "not finite" in diverging.failed
    assert not good.failed and good.variants[0].exit == "pruned"

    outcomes = [(row.spec.stage, row.spec.variant, row.outcome) for row in attempts(state)]
    assert ("prepare", "", "data_short") in outcomes
    assert outcomes.count(("quick", "no_fs", "diverged")) == 1  # never tried again
    assert outcomes.count(("quick", "raw", "completed")) == 1


def test_without_a_compiler_the_fallback_trains_and_says_so(tmp_path: Path) -> None:
    """The failed build is a row with what to install, every attempt says what trained it."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(SCREEN_ONLY)
    (tmp_path / "bin").mkdir()
    state = new_state(tmp_path, None)
    environment = {**os.environ, "PATH": str(tmp_path / "bin"), "CXX": ""}
    with run_of(state, plan, environment=environment) as run:
        run.to_the_end()
    assert_whole(state)
    rows = attempts(state)
    (build,) = (row for row in rows if row.spec.stage == "build")
    assert (build.outcome, build.outcome_class) == ("kernel_build_failed", "configuration")
    assert "g++" in build.reason
    assert any("torch-chunked" in event.text for event in events(state))
    trained = [row for row in rows if row.spec.role in ("probe", "screen")]
    assert [row.backend for row in trained] == ["torch-chunked"] * 3
    assert [row.spec.variant for row in trained if completed_in(row, "quick")] == ["no_fs", "scalar_l1"]


def test_a_build_says_how_far_it_is_and_why_it_failed(tmp_path: Path, short_plan: Path) -> None:
    """While it compiles, a status shows how far; a failure is a row, and its log has the compiler's words."""
    compiler = tmp_path / "compiler"
    compiler.write_text(CLUMSY_COMPILER)
    compiler.chmod(0o755)
    state = new_state(tmp_path, None)

    def seen(reader: Reader) -> str | None:
        daemon = reader.daemon()
        return daemon.step if daemon and "compiled" in daemon.step else None

    def failed(reader: Reader) -> Attempt | None:
        rows = [row for row in reader.attempts() if row.spec.role == "build" and row.outcome]
        return rows[0] if rows else None

    with run_of(state, short_plan, environment={"CXX": str(compiler)}) as run:
        run.start()
        assert re.fullmatch(r"build: compiled \d+ of \d+(: .+)?", run.until(seen))
        build = run.until(failed)
    assert (build.outcome, build.outcome_class) == ("kernel_build_failed", "configuration")
    assert "b.cpp:1: error: out of wits" in build.reason and "in the log" in build.reason
    log = state / "logs" / f"{build.spec.id}-{build.try_number}.log"
    assert "more words" in log.read_text()


def completed_in(row: Attempt, stage: str) -> bool:
    return row.spec.stage == stage and row.outcome == "completed"
