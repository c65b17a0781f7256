"""A hopeless variant is stopped at the look by the real daemon, and every view of the record says so.

The model is a checkpoint whose own predictions are the answers, nearly all of them: no_fs is good from the
first step on, and a seed of a thousand times the state, which the weights never met, loses what they know.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from fsearch.rwkv7 import load, save
from fsearch.search.rows import Attempt
from fsearch.store import Evaluation, open_reader
from tests.end_to_end.runs import COMMAND_LINE, Run, assert_whole, attempts, new_state, run_of, standing

PLAN = """
name: hopeless
seed: 0
model: {checkpoint: known.pth}
train: {lr: 3.0e-4}
stages:
  - {name: quick, steps: 24}
  - {name: medium, steps: 2, seeds: 3}
screen: {prune_below: -0.4, noise_floor_seeds: 2, futility_look: 0.3}
evaluate: {every: 12}
variants:
  - {name: absurd, gate: scalar, alpha: 20, scale: 1000, norm: false, clip: null}
  - {name: weak, gate: scalar, alpha: -6}
tasks:
  - task: sft
    data: rows.jsonl
    prompt: "{q}"
    answer: "{a}"
    tokenizer: bytes
    n_train: 256
    n_val: 256
    batch: 8
"""
LETTERS = "abcd"
ROWS = 4000
LOOK = 7  # 0.3 of 24 steps


def write_inputs(folder: Path) -> Path:
    """The checkpoint, questions with its own answers (one in ten is another), and the plan."""
    model = load({"n_layer": 3, "n_embd": 32, "head_size": 8, "vocab_size": 257, "seed": 1})
    source, rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=source)
        for name, parameter in model.named_parameters():
            if name.endswith("att.output.weight"):
                parameter *= 100.0  # so that what a layer remembers decides
        silent = torch.ones(257, dtype=torch.bool)
        silent[[ord(letter) + 1 for letter in LETTERS]] = False
        model.head.weight[silent] = 0.0
    save(model, folder / "known.pth")
    model = load(folder / "known.pth")
    questions = rng.choice(np.frombuffer(b"efghijklmnop", np.uint8), (ROWS, 8))
    tokens = torch.from_numpy(questions.astype(np.int64) + 1)  # the byte b has the id b + 1
    with torch.no_grad():
        logits = model(tokens, torch.full((ROWS,), 8), None)[:, -1]
    known = logits[:, ~silent].argmax(1).numpy()
    given = np.where(rng.random(ROWS) < 0.1, rng.integers(4, size=ROWS), known)
    rows = ({"q": bytes(q).decode(), "a": LETTERS[a]} for q, a in zip(questions, given, strict=True))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "plan.yaml").write_text(PLAN)
    return folder / "plan.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> Run:
    """The plan, run to its end."""
    folder = tmp_path_factory.mktemp("hopeless")
    with run_of(new_state(folder, kernel_library), write_inputs(folder)) as run:
        run.to_the_end()
    return run


def screened(run: Run) -> dict[tuple[str, int], tuple[Attempt, list[Evaluation]]]:
    """The screening rows with their curves, by variant and seed."""
    with open_reader(run.state / "fsearch.db") as reader:
        rows = [row for row in reader.attempts() if row.spec.role == "screen"]
        return {
            (row.spec.variant, row.spec.seed): (row, reader.evaluations(row.spec.id, row.try_number))
            for row in rows
        }


def test_the_hopeless_variant_is_stopped_and_the_other_goes_on(run: Run) -> None:
    """By a bound computed here from the curves in the record."""
    assert_whole(run.state)
    rows = screened(run)
    at_look = {
        place: next(point.score for point in curve if point.step == LOOK)
        for place, (_, curve) in rows.items()
    }
    assert {place: row.look_score for place, (row, _) in rows.items()} == at_look
    floor = [at_look["no_fs", seed] for seed in (0, 1, 2)]
    below = floor[0] - scipy.stats.t.ppf(0.9, 2) * np.sqrt(2) * np.std(floor, ddof=1)
    assert at_look["absurd", 0] < below < at_look["weak", 0]
    absurd, curve = rows["absurd", 0]
    assert (absurd.outcome, absurd.steps_done, absurd.score) == ("stopped_early", LOOK, None)
    assert [point.step for point in curve] == [LOOK]
    assert f"after {LOOK} of 24 steps" in absurd.reason and f"{below * 100:.2f} %" in absurd.reason
    weak, curve = rows["weak", 0]
    assert (weak.outcome, weak.steps_done) == ("completed", 24)
    assert [point.step for point in curve] == [LOOK, 12, 24]


def test_it_is_pruned_and_compared_with_nothing(run: Run) -> None:
    """On the board, in the lines of the run and in the report, with the reason."""
    (board,) = standing(run.state, run.plan).boards
    absurd = board.variants[0]
    assert (absurd.exit, absurd.screens, absurd.pairs) == ("pruned", [], [])
    assert not [
        row for row in attempts(run.state) if row.spec.variant == "absurd" and row.spec.role == "confirm"
    ]
    (line,) = [line for line in run.output.read_text().splitlines() if "quick" in line and "absurd" in line]
    assert "prune" in line and "failed" not in line and f"stopped at the look after {LOOK} of 24" in line
    report = " ".join(said(run, "report", str(run.plan)).split())
    assert f"pruned stopped at the look after {LOOK} of 24 steps" in report


def test_the_export_and_its_replay_say_prune(run: Run) -> None:
    """The replay comes to the decisions of the run."""
    (file := run.state.parent / "rows.out").write_text(said(run, "export", str(run.plan)))
    found = {row["variant"]: row for row in map(json.loads, file.read_text().splitlines())}
    absurd = found["absurd"]
    assert (absurd["outcome"], absurd["decision"], absurd["verdict"]) == ("stopped_early", "prune", "pruned")
    assert (absurd["score"], absurd["d_acc"], absurd["steps"]) == (None, None, LOOK)
    replayed: list[dict[str, Any]] = json.loads(said(run, "replay", str(file), "--json", state=False))
    (again,) = [item for item in replayed if item["variant"] == "absurd"]
    assert (again["decision"], again["d_acc"], again["reason"]) == ("prune", None, absurd["reason"])


def said(run: Run, *words: str, state: bool = True) -> str:
    command = [*COMMAND_LINE, *words, *(["--state", str(run.state)] if state else [])]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
