"""Real trainings on a real cluster: the plans that come with fsearch give the table of one machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from fsearch.store import Reader
from tests.cluster.clusters import Nodes, cluster_of
from tests.cluster.test_ray import GONE_S, assert_same_table
from tests.end_to_end.conftest import SHORT
from tests.end_to_end.runs import assert_whole, attempts, daemon_of, left_after, new_state, run_of

pytest.importorskip("ray")

PLANS = Path(__file__).parents[2] / "plans"
LIMIT_S = 4 * 3600.0
QUIET = {"OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}
ONE_MACHINE = ("--device", "cpu")

Alone = Callable[[str], Path]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> Alone:
    """The state of a plan's run on one machine, by the plan's name; each plan runs once."""
    states: dict[str, Path] = {}

    def state_of(plan: str) -> Path:
        if plan not in states:
            folder = tmp_path_factory.mktemp(plan)
            states[plan] = new_state(folder, kernel_library)
            with run_of(states[plan], plan_file(plan, folder), *ONE_MACHINE, environment=QUIET) as run:
                run.start()
                assert run.wait(LIMIT_S) == 0, run.told()
            assert_whole(states[plan])
        return states[plan]

    return state_of


def plan_file(plan: str, folder: Path) -> Path:
    """A plan of ours by its name, or the short one, in a folder."""
    file = folder / "plan.yaml"
    file.write_text(SHORT if plan == "short" else (PLANS / f"{plan}.yaml").read_text())
    return file


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("plan", ["short", "demo", "controls"])
def test_the_table_is_that_of_one_machine(
    plan: str, tmp_path: Path, kernel_library: Path, alone: Alone
) -> None:
    """Every number of every row, to the digit, from two nodes of one place; how long each took is printed."""
    there = alone(plan)
    with two_nodes(tmp_path / "nodes", kernel_library) as nodes:
        state = new_state(tmp_path, kernel_library)
        file = plan_file(plan, tmp_path)
        with run_of(state, file, "--on", nodes.address, environment=QUIET) as run:
            run.start()
            assert run.wait(LIMIT_S) == 0, run.told()
    assert_whole(state)
    assert_same_table(state, there)
    assert {row.node for row in attempts(state) if row.spec.role == "confirm"} == {"one", "two"}
    took = {"plan": plan, "one_machine_s": trained_s(there), "two_nodes_s": trained_s(state)}
    print(json.dumps({**took, "ratio": took["two_nodes_s"] / took["one_machine_s"]}))


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
def test_losses_in_the_middle_of_trainings_change_nothing(
    tmp_path: Path, kernel_library: Path, alone: Alone
) -> None:
    """kill -9 of a node that trains, then of the daemon, and at last of the other node of the beginning."""
    there = alone("demo")
    with two_nodes(tmp_path / "nodes", kernel_library) as nodes:
        state = new_state(tmp_path, kernel_library)
        file = plan_file("demo", tmp_path)
        with run_of(state, file, "--on", nodes.address, environment=QUIET) as run:
            run.start()
            run.until(lambda reader: _makes_steps(reader, "two"))
            nodes.kill("two")
            run.until(lambda reader: _is_lost(reader, "two"))
            nodes.add("three")
            run.until(lambda reader: _makes_steps(reader, "three"))
            killed = daemon_of(state).id
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            left, _ = left_after(GONE_S, run.processes)
            assert not left
            run.start()
            run.until(lambda reader: _makes_steps(reader, "one", not_of=killed))
            nodes.kill("one")
            assert run.wait(LIMIT_S) == 0, run.told()
    assert_whole(state)
    assert_same_table(state, there)
    lost = {(row.node, row.pattern) for row in attempts(state) if row.outcome == "interrupted"}
    assert {("two", "node lost"), ("one", "node lost"), ("three", "daemon died")} <= lost


@contextmanager
def two_nodes(folder: Path, kernel_library: Path) -> Iterator[Nodes]:
    """A cluster of the nodes "one" and "two", with one place each."""
    with cluster_of(folder, kernel_library, QUIET) as nodes:
        nodes.add("one")
        nodes.add("two")
        yield nodes


def _makes_steps(reader: Reader, node: str, not_of: str = "") -> bool | None:
    """Whether a training on the node is in the middle of its steps, by another daemon than `not_of`."""
    daemon = reader.daemon()
    places = daemon.progress.get("places", []) if daemon and daemon.id != not_of else []
    trains = {row.spec.id for row in reader.unfinished() if row.spec.role in ("screen", "confirm")}
    middle = (0 < place.get("step", 0) < place.get("steps", 0) for place in places if place["node"] == node)
    ids = {place.get("attempt") for place in places if place["node"] == node}
    return True if any(middle) and ids & trains else None


def _is_lost(reader: Reader, node: str) -> bool | None:
    """Whether the daemon knows of the node's loss: Ray takes some seconds."""
    return True if any((row.node, row.pattern) == (node, "node lost") for row in reader.attempts()) else None


def trained_s(state: Path) -> float:
    """From the first start of a probe or training to the last end."""
    rows = [row for row in attempts(state) if row.spec.role in ("probe", "screen", "confirm")]
    times = [datetime.fromisoformat(at) for row in rows for at in (row.started_at, row.ended_at) if at]
    return (max(times) - min(times)).total_seconds()
