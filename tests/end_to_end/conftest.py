"""A short plan, and one undisturbed run of it that several tests look at and compare with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.runs import assert_whole, exported, new_state, numbers, run_of, verdicts
from tests.end_to_end.stub_runs import StubRun, Table, table_of
from tests.end_to_end.warm import Warm

SHORT = """
name: short
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages:
  - {name: quick, steps: 30}
  - {name: medium, steps: 40, seeds: 3}
screen: {prune_below: 0.05, promote_at_most: 1}
claim: {at_least: 0.02}
variants:
  - {name: raw, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
  - {name: weak, gate: scalar, alpha: -8}
  - scalar_l2
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 512, n_val: 64, batch: 16}
"""

ONE_STAGE = """
name: one stage
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages: [{name: only, steps: 400, seeds: 3}]
variants: [{name: raw, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 512, n_val: 64, batch: 16}
"""

STUB = """
name: stub
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 1.0e-2}
stages:
  - {name: quick, steps: 2}
  - {name: medium, steps: 3, seeds: 3}
screen: {prune_below: 0.1, promote_at_most: 1}
limits: {retries: 1000}
variants:
  - {name: raw, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
  - {name: weak, gate: scalar, alpha: -8}
  - scalar_l2
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 16, n_val: 16, batch: 4}
"""


@dataclass(frozen=True)
class Finished:
    """A run of a plan that nothing disturbed."""

    state: Path
    plan: Path
    output: str
    measured: dict[str, Any]


def assert_same_as(undisturbed: Finished, state: Path) -> None:
    """The same attempts with the same numbers, verdicts and export as in the run that nothing disturbed."""
    assert_whole(state)
    assert numbers(state) == numbers(undisturbed.state)
    assert verdicts(state, undisturbed.plan) == verdicts(undisturbed.state, undisturbed.plan)
    assert exported(state, undisturbed.plan) == exported(undisturbed.state, undisturbed.plan)


@pytest.fixture(scope="session")
def short_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole search in about a dozen attempts of half a second: every stage, a prune, a no-op."""
    path = tmp_path_factory.mktemp("plan") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path, short_plan: Path) -> Finished:
    """The short plan run from the beginning to the end."""
    state = new_state(tmp_path_factory.mktemp("undisturbed"), kernel_library)
    measured = state.parent / "measured.json"
    command = (sys.executable, "-m", "tests.end_to_end.measured", str(measured))
    with run_of(state, short_plan, command=command) as run:
        run.to_the_end()
    return Finished(state, short_plan, run.output.read_text(), json.loads(measured.read_text()))


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that has imported fsearch."""
    started = Warm()
    yield started
    started.end()


@pytest.fixture(scope="session")
def stub_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of every stage, a prune and a no-op, for trainings that last a millisecond (`tests.stub`)."""
    path = tmp_path_factory.mktemp("plan") / "stub.yaml"
    path.write_text(STUB)
    return path


@pytest.fixture(scope="session")
def in_peace(tmp_path_factory: pytest.TempPathFactory, stub_plan: Path, warm: Warm) -> Table:
    """What the stub plan gives when nothing disturbs it, and how long that takes on this machine today."""
    run = StubRun(new_state(tmp_path_factory.mktemp("stub"), None), stub_plan, warm)
    began_s = time.monotonic()
    run.to_the_end()
    return replace(table_of(run), seconds=time.monotonic() - began_s)


@pytest.fixture
def stub_run(tmp_path: Path, stub_plan: Path, warm: Warm) -> Iterator[StubRun]:
    """The stub plan on a state in which nothing has run yet."""
    run = StubRun(new_state(tmp_path, None), stub_plan, warm)
    yield run
    run.end()
