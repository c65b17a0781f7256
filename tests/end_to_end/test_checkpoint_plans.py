"""A plan that trains from a checkpoint, as a person runs it: to its end, stopped, and with other files."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fsearch.rwkv7 import load, save
from fsearch.search.rows import Attempt
from fsearch.store import Reader, open_reader
from tests.end_to_end.runs import (
    LIMIT_S,
    Run,
    assert_whole,
    attempts,
    new_state,
    numbers,
    run_of,
    standing,
    verdicts,
)
from tests.hub import ADDRESS, Hub, model, silent_port
from tests.ui.commands import fsearch

PLAN = """
name: from a checkpoint
seed: 0
model: {checkpoint: ../models/tiny.pth}
train: {lr: 5.0e-3}
stages:
  - {name: quick, steps: 800}
  - {name: medium, steps: 2, seeds: 3}
screen: {prune_below: 0.4}
variants: [{name: weak, gate: scalar, alpha: -8}, scalar_l3]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 512, n_val: 64, batch: 16}
  - {task: infill, n_symbols: 12, n_masks: 4, n_left: 2, n_train: 64, n_val: 16, batch: 16}
"""
"""Its second search has more symbols than the checkpoint has ids."""


def write_checkpoint(path: Path, seed: int) -> None:
    """Three layers in the official format, all weights random; 8 ids: enough for 4 symbols."""
    model = load({"n_layer": 3, "n_embd": 32, "head_size": 8, "vocab_size": 8, "seed": seed})
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=source)
    save(model, path)


def write_plan(folder: Path) -> Path:
    for name in ("models", "plans"):
        (folder / name).mkdir()
    write_checkpoint(folder / "models" / "tiny.pth", 1)
    (folder / "plans" / "plan.yaml").write_text(PLAN)
    return folder / "plans" / "plan.yaml"


@pytest.fixture
def run(tmp_path: Path, kernel_library: Path) -> Iterator[Run]:
    with run_of(new_state(tmp_path, kernel_library), write_plan(tmp_path)) as run:
        yield run


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> Run:
    """A run to its end that nothing stopped."""
    folder = tmp_path_factory.mktemp("peace")
    with run_of(new_state(folder, kernel_library), write_plan(folder)) as run:
        run.to_the_end()
    return run


def rows_of(state: Path, role: str) -> list[Attempt]:
    return [row for row in attempts(state) if row.spec.role == role]


def test_a_plan_runs_to_its_end(in_peace: Run) -> None:
    """One inspection; depth and no-ops are the file's; a vocabulary that is too small is said in words."""
    assert_whole(in_peace.state)
    (inspection,) = rows_of(in_peace.state, "inspect")
    assert inspection.outcome == "completed"
    good, too_wide = standing(in_peace.state, in_peace.plan).boards
    assert [(entry.variant.name, entry.exit) for entry in good.variants] == [
        ("weak", "pruned"),
        ("scalar_l3", "noop"),
    ]
    assert "the checkpoint has a vocabulary of 8" in too_wide.failed
    with open_reader(in_peace.state / "fsearch.db") as reader:
        (fact,) = reader.models().values()
    assert (fact.n_layer, fact.n_embd, fact.head_size, fact.vocab_size) == (3, 32, 8, 8)
    for row in rows_of(in_peace.state, "screen"):
        assert row.spec.model == {"checkpoint": fact.sha256}
    told = in_peace.output.read_text()
    assert "Every search has ended; 1 could not be done." in told
    assert "after its fork" not in told


def test_a_second_run_does_nothing_and_looking_finds_the_same(in_peace: Run, tmp_path: Path) -> None:
    """No new row, not even an inspection; a report from another folder knows the model too."""
    before, found = attempts(in_peace.state), verdicts(in_peace.state, in_peace.plan)
    in_peace.to_the_end()
    assert attempts(in_peace.state) == before
    assert verdicts(in_peace.state, in_peace.plan) == found
    for verb in ("report", "status"):
        seen = fsearch(verb, "--state", in_peace.state, *(["--once"] * (verb == "status")), cwd=tmp_path)
        assert seen.returncode == 0 and "not inspected" not in seen.stdout
    assert "pruned" in seen.stdout


def test_a_check_knows_the_layers(in_peace: Run, tmp_path: Path) -> None:
    """It looks into the file; where it must be downloaded first it says so instead of naming no-ops."""
    seen = fsearch("check", in_peace.plan, cwd=tmp_path)
    text = " ".join(seen.stdout.split())
    assert "3 layers, width 32, head size 8, vocabulary 8" in text
    assert "no-op, not trained: scalar_l3" in text
    away = tmp_path / "away.yaml"
    away.write_text(PLAN.replace("../models/tiny.pth", "hf://owner/repo/tiny.pth"))
    text = " ".join(fsearch("check", away, cwd=tmp_path).stdout.split())
    assert "not downloaded yet" in text and "no-ops are not known" in text and "not trained" not in text


def test_a_missing_file_is_an_error_of_the_plan(tmp_path: Path) -> None:
    """`run` names file, line, field and the place that was looked at, at once; `check` has a notice."""
    plan = write_plan(tmp_path)
    (tmp_path / "models" / "tiny.pth").unlink()
    done = fsearch("run", plan, cwd=tmp_path)
    assert done.returncode == 2
    assert f"plan.yaml:4:21: model.checkpoint: {tmp_path}/models/tiny.pth is not there" in done.stderr
    seen = fsearch("check", plan, cwd=tmp_path, COLUMNS="300")  # a path in one line
    assert seen.returncode == 0
    assert f"{tmp_path}/models/tiny.pth is not there" in " ".join(seen.stdout.split())
    assert not (tmp_path / "state").exists()


def test_a_cut_off_file_fails_every_search(run: Run, tmp_path: Path) -> None:
    """Exit code 0, all searches failed with the reason; once the file is whole, all of it is done."""
    file = tmp_path / "models" / "tiny.pth"
    shutil.copy(file, tmp_path / "whole.pth")
    os.truncate(file, 10_000)
    run.to_the_end()
    boards = standing(run.state, run.plan).boards
    assert all(
        board.finished and "model_refused" in board.failed and "cut off" in board.failed for board in boards
    )
    assert {row.spec.role for row in attempts(run.state)} <= {"inspect", "prepare"}
    told = " ".join(run.output.read_text().split())
    assert "tiny.pth" in told and "2 could not be done; 1 attempt failed." in told
    check = fsearch("check", run.plan, cwd=tmp_path)
    assert check.returncode == 2 and "plan.yaml:4:21: model.checkpoint" in check.stderr

    shutil.copy(tmp_path / "whole.pth", file)
    run.to_the_end()
    assert [board.failed == "" for board in standing(run.state, run.plan).boards] == [True, False]
    assert [row.outcome for row in rows_of(run.state, "inspect")] == ["model_refused", "completed"]


def test_a_stopped_run_goes_on_and_another_file_begins_anew(run: Run, in_peace: Run, tmp_path: Path) -> None:
    """Stopped in an attempt it goes on with the same numbers; a file that is replaced, between two runs or
    during one, is inspected and trained anew."""
    run.start()
    stopped = run.until(in_the_middle)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(LIMIT_S) == 130
    assert attempts(run.state)[-1].outcome == "interrupted"
    run.to_the_end()
    assert [row.outcome for row in attempts(run.state) if row.spec.id == stopped.spec.id][-1] == "completed"
    old = trained(run.state)
    assert old == trained(in_peace.state)

    # The next worker may have read the file before it is replaced; the one after it cannot have.
    run.plan.write_text(PLAN.replace("scalar_l3]", "{name: weaker, gate: scalar, alpha: -9}, scalar_l3]"))
    write_checkpoint(tmp_path / "models" / "tiny.pth", 2)
    run.start()
    second = run.until(in_the_middle)
    write_checkpoint(tmp_path / "models" / "tiny.pth", 3)
    run.to_the_end()
    assert [row.outcome for row in rows_of(run.state, "inspect")] == ["completed"] * 3
    changed = [row for row in attempts(run.state) if row.outcome == "model_changed"]
    assert [row.spec.model for row in changed] == [second.spec.model]
    assert changed[0].spec.variant in ("weak", "weaker")
    assert "tiny.pth" in changed[0].reason
    models = {row.spec.model["checkpoint"] for row in rows_of(run.state, "screen")}
    assert len(models) == 3
    (third,) = models - {stopped.spec.model["checkpoint"], second.spec.model["checkpoint"]}
    (board, _) = standing(run.state, run.plan).boards
    assert board.search.model == {"checkpoint": third}
    assert [entry.exit for entry in board.variants] == ["pruned", "pruned", "noop"]
    assert set(old) < set(trained(run.state))


def test_a_hub_that_comes_back(tmp_path: Path, kernel_library: Path, in_peace: Run) -> None:
    """A run that finds no hub waits and says so, goes on when there is one, and needs none the next time."""
    plan = write_plan(tmp_path)
    plan.write_text(PLAN.replace("../models/tiny.pth", ADDRESS))
    environment = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    with (
        silent_port() as port,
        run_of(new_state(tmp_path, kernel_library), plan, environment=environment) as run,
    ):
        run.environment["HF_ENDPOINT"] = f"http://127.0.0.1:{port}"
        run.start()
        run.until(
            lambda reader: next((row for row in reader.attempts() if row.outcome == "network_wait"), None)
        )
        hub = Hub(model((tmp_path / "models" / "tiny.pth").read_bytes()), port)
        try:
            run.to_the_end()
        finally:
            hub.stop()
        outcomes = [row.outcome for row in rows_of(run.state, "inspect")]
        assert set(outcomes[:-1]) == {"network_wait"} and outcomes[-1] == "completed"
        assert ADDRESS in rows_of(run.state, "inspect")[0].reason
        assert trained(run.state) == trained(in_peace.state)  # the same weights: the same ids and scores
        run.to_the_end()
        assert [row.outcome for row in rows_of(run.state, "inspect")] == outcomes


def trained(state: Path) -> dict[str, object]:
    """The scores of the screening attempts that completed, by id."""
    done = {row.spec.id for row in rows_of(state, "screen") if row.outcome == "completed"}
    return {identity: found["score"] for identity, found in numbers(state).items() if identity in done}


def in_the_middle(reader: Reader) -> Attempt | None:
    """The first attempt that trains, once it has made steps."""
    daemon = reader.daemon()
    if daemon is None or " no_fs " not in daemon.step or ": step " not in daemon.step:
        return None
    return next((row for row in reader.unfinished() if row.spec.variant == "no_fs"), None)
