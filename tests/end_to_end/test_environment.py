"""What a result was made under: different environments are never mixed, equal jobs give equal bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from fsearch.daemon.fingerprint import environment
from fsearch.daemon.jobs import attempt_job
from fsearch.search.board import Run as Step
from fsearch.search.rows import Attempt
from fsearch.store import Reader, open_reader
from fsearch.system.messages import Reader as Messages
from tests.end_to_end.conftest import Finished
from tests.end_to_end.runs import (
    LIMIT_S,
    assert_whole,
    attempts,
    closing,
    left_after,
    new_state,
    run_of,
    standing,
)

TWO_SEARCHES = """
name: two searches
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages:
  - {name: quick, steps: 20}
  - {name: medium, steps: 10, seeds: 3}
screen: {prune_below: 0.4}
variants: [{name: weak, gate: scalar, alpha: -8}, {name: weaker, gate: scalar, alpha: -9}]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 512, n_val: 64, batch: [16, 8]}
"""


def test_a_changed_environment_begins_unfinished_searches_again(tmp_path: Path, kernel_library: Path) -> None:
    """With other threads a finished search stays as it is, an unfinished one starts from its baseline, and
    what it had done is kept."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(TWO_SEARCHES)
    state = new_state(tmp_path, kernel_library)

    def variant_of_the_second_search(reader: Reader) -> Attempt | None:
        wanted = ("quick", 8, "weak")
        rows = reader.unfinished()
        return next(
            (row for row in rows if (row.spec.stage, row.spec.batch, row.spec.variant) == wanted), None
        )

    with run_of(state, plan, "--threads", "1") as first:
        first.start()
        first.until(variant_of_the_second_search)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert left_after(2.0, first.processes)[0] == []
    before = {(row.spec.id, row.try_number): row for row in closing(attempts(state))}

    with run_of(state, plan, "--threads", "2") as second:
        second.to_the_end()
    after = attempts(state)
    kept = {(row.spec.id, row.try_number): row for row in after}
    assert all(kept[key] == row for key, row in before.items())

    trained = [row for row in after if row.spec.role in ("probe", "screen", "confirm")]
    threads = Counter(
        (row.spec.batch, row.fingerprints["threads"]) for row in trained if row.outcome == "completed"
    )
    assert threads == {(16, 1): 4, (8, 1): 2, (8, 2): 4}
    finished, again = standing(state, plan).boards
    assert finished.finished and again.finished
    assert {row.fingerprints["threads"] for row in finished.baselines.values()} == {1}
    assert {row.fingerprints["threads"] for row in again.baselines.values()} == {2}
    for board in (finished, again):
        for entry in board.variants:
            for screened in entry.screens:
                assert screened.row.fingerprint == screened.baseline.fingerprint == board.fingerprint
    baselines = [row for row in trained if (row.spec.batch, row.spec.variant) == (8, "no_fs")]
    assert [(row.try_number, row.fingerprints["threads"]) for row in baselines] == [(1, 1), (2, 2)]


def test_a_cold_process_gives_what_the_daemon_recorded(
    undisturbed: Finished, tmp_path: Path, kernel_library: Path
) -> None:
    """The job of a recorded attempt, in a process of its own, gives the recorded numbers to the bit."""
    row = recorded(undisturbed.state, "quick", "raw", 0)
    assert cold(job_of(undisturbed.state, row), kernel_library, tmp_path) == numbers_of(row)


def test_a_noop_and_the_baseline_agree_to_the_bit(
    undisturbed: Finished, tmp_path: Path, kernel_library: Path
) -> None:
    """A variant that seeds no layer, trained by force, gives the baseline's numbers, losses and weights."""
    baseline = recorded(undisturbed.state, "medium", "no_fs", 1)
    form = {**recorded(undisturbed.state, "medium", "raw", 1).spec.form, "layers": {}}
    forced = {**job_of(undisturbed.state, baseline), "form": form}
    assert cold(forced, kernel_library, tmp_path) == numbers_of(baseline)


def test_the_record_says_what_it_was_made_under(undisturbed: Finished) -> None:
    """Every row that ran carries the code, torch, device, threads, backend and data that it depends on."""
    known = environment("cpu", 1)
    for row in attempts(undisturbed.state):
        if row.spec.role in ("probe", "screen", "confirm") and row.pid is not None:
            assert {name: row.fingerprints[name] for name in known} == known
            assert row.fingerprints["backend"] == row.backend
            assert len(row.fingerprints["data"]) == 64
    assert_whole(undisturbed.state)


def recorded(state: Path, stage: str, variant: str, seed: int) -> Attempt:
    wanted = (stage, variant, seed)
    rows = attempts(state)
    (row,) = (row for row in rows if (row.spec.stage, row.spec.variant, row.spec.seed) == wanted)
    return row


def job_of(state: Path, row: Attempt) -> dict[str, Any]:
    """The job that a worker was given for a recorded attempt, without a checkpoint."""
    with open_reader(state / "fsearch.db") as reader:
        (data,) = reader.facts().values()
    job = attempt_job(
        Step(row.spec, 1),
        data,
        None,
        fingerprint=row.fingerprint,
        device="cpu",
        threads=1,
        backend=row.backend,
        state=state,
    )
    return {**job, "checkpoint": None}


def cold(job: dict[str, Any], kernel_library: Path, folder: Path) -> dict[str, Any]:
    """The numbers of an attempt job run by `python -m fsearch.train.attempt`."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "fsearch.train.attempt", "--messages-fd", str(write)]
    command += ["--parent", str(os.getpid()), "--kernel-cache", str(kernel_library.parent)]
    done = subprocess.run(
        command,
        input=json.dumps(job).encode(),
        stderr=subprocess.PIPE,
        pass_fds=[write],
        timeout=LIMIT_S,
        cwd=Path(__file__).parents[2],
    )
    os.close(write)
    messages = Messages(read).read_available()
    os.close(read)
    assert done.returncode == 0, done.stderr.decode()
    result = messages[-1]
    assert result["type"] == "result"
    names = ["score", "loss", "acc_pooled", "screen_score", "screen_loss", "metrics", "steps", "tokens"]
    names += ["first_losses", "early_weights_sha256", "weights_sha256", "backend"]
    return {name: result[name] for name in names}


def numbers_of(row: Attempt) -> dict[str, Any]:
    return {
        "score": row.score,
        "loss": row.loss,
        "acc_pooled": row.acc_pooled,
        "screen_score": row.screen_score,
        "screen_loss": row.screen_loss,
        "metrics": row.metrics,
        "steps": row.steps_done,
        "tokens": row.tokens,
        "first_losses": list(row.first_losses),
        "early_weights_sha256": row.early_weights_sha256,
        "weights_sha256": row.weights_sha256,
        "backend": row.backend,
    }
