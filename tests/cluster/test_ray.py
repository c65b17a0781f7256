"""`fsearch run --on ray`: a real cluster gives the table of one machine, to the digit, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from fsearch.store import Reader
from tests.alive import runs
from tests.cluster.clusters import Nodes, cluster_of
from tests.end_to_end.conftest import SHORT
from tests.end_to_end.runs import (
    COMMAND_LINE,
    Run,
    assert_whole,
    attempts,
    closing,
    descendants,
    events,
    left_after,
    new_state,
    numbers,
    run_of,
    verdicts,
)
from tests.end_to_end.stub_runs import STUB_PROGRAMS

pytest.importorskip("ray")

GONE_S = 30.0  # Ray ends the actors of a driver that is gone
A_TRAINING_S = "0.4"
STUBS = {**STUB_PROGRAMS, "FSEARCH_STUB": A_TRAINING_S}
TWO_SEARCHES = SHORT.replace("batch: 16", "batch: [8, 16]")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with cluster_of(tmp_path_factory.mktemp("nodes"), environment=STUBS) as nodes:
        nodes.add("one", places=2)
        nodes.add("two", places=2)
        yield nodes


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a run of the plan on this machine."""
    return state_of(tmp_path_factory.mktemp("alone"), TWO_SEARCHES, environment=STUBS)


def state_of(folder: Path, text: str, *options: str, environment: dict[str, str]) -> Path:
    """The state of a finished run of a plan."""
    plan, state = folder / "plan.yaml", new_state(folder, None)
    plan.write_text(text)
    with run_of(state, plan, *options, environment=environment) as run:
        run.to_the_end()
    assert_whole(state)
    return state


def assert_same_table(state: Path, alone: Path) -> None:
    """All rows but the build, which every node does for itself, and all that is said of them."""
    cluster, here = _table(state), _table(alone)
    assert cluster == here


def _table(state: Path) -> tuple[object, ...]:
    plan = state.parent / "plan.yaml"
    found = {key: row for key, row in numbers(state).items() if row["spec"].role != "build"}
    told = [row for row in Run(state, plan).exported() if row["stage"] != "build"]
    for row in told:
        row.pop("node")
    return found, verdicts(state, plan), sorted(told, key=lambda row: str(row["id"]))


@pytest.mark.timeout(600)
def test_the_table_is_that_of_one_machine(nodes: Nodes, alone: Path, tmp_path: Path) -> None:
    """To the digit, from both nodes, several attempts at once; pairs are of one node, data copied once."""
    state = state_of(tmp_path, TWO_SEARCHES, "--on", nodes.address, environment=STUBS)
    assert_same_table(state, alone)
    rows = closing(attempts(state))
    trained = [row for row in rows if row.spec.role in ("screen", "confirm") and row.node]
    assert {row.node for row in trained} == {"one", "two"}
    assert {row.pid for row in trained} == {None}
    assert sum(row.idle_s is None for row in trained) <= 4  # nothing was before the first of a place
    baselines = {
        (row.spec.search_key, row.spec.stage, row.spec.seed): row
        for row in trained
        if row.spec.variant == "no_fs"
    }
    for row in trained:
        assert row.node == baselines[row.spec.search_key, row.spec.stage, row.spec.seed].node
    assert any(two.sequence == one.sequence + 1 for one, two in pairwise(trained))
    report = json.loads(_printed("report", "--json", "--state", str(state)))["plans"][0]
    assert [use["node"] for use in report["nodes"]] == ["one", "two"] and report["apart"] == 0
    assert sum(use["tries"] for use in report["nodes"]) == len([row for row in rows if row.node])
    assert "nodes" in _printed("report", str(tmp_path / "plan.yaml"), "--state", str(state))
    for name in ("one", "two"):
        assert len(nodes.copies(name)) == 1 and list((nodes.folder(name) / "checkpoints").iterdir()) == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_driver_that_is_killed_goes_on(nodes: Nodes, alone: Path, tmp_path: Path) -> None:
    """kill -9 of the daemon, and of the process between it and Ray: the same table, and nothing left."""
    plan, state = tmp_path / "plan.yaml", new_state(tmp_path, None)
    plan.write_text(TWO_SEARCHES)
    with run_of(state, plan, "--on", nodes.address, environment=STUBS) as run:
        run.start()
        run.until(lambda reader: _trains_after(reader, 5))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        left, _ = left_after(GONE_S, run.processes)
        assert not left
        run.start()
        run.until(lambda reader: _trains_after(reader, 9))
        os.kill(_bridge(run), signal.SIGKILL)
        run.to_the_end()
    assert_whole(state)
    assert_same_table(state, alone)
    patterns = {row.pattern for row in attempts(state) if row.outcome == "interrupted"}
    assert "daemon died" in patterns and patterns <= {"daemon died", "node lost"}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_node_that_is_killed_is_done_without(alone: Path, tmp_path: Path) -> None:
    """kill -9 of a node while it trains: what ran there is done on others, a later one among them.

    Meanwhile places make their next worker ready.
    """
    plan, state = tmp_path / "plan.yaml", new_state(tmp_path, None)
    plan.write_text(TWO_SEARCHES)
    with cluster_of(tmp_path / "nodes", environment={**STUBS, "FSEARCH_STUB": "2"}) as nodes:
        nodes.add("one")
        nodes.add("two")
        with run_of(state, plan, "--on", nodes.address, environment=STUBS) as run:
            run.start()
            run.until(lambda reader: _has_one_ready() or None)
            run.until(lambda reader: _running_on(reader, "two"))
            nodes.kill("two")
            nodes.add("three")
            run.to_the_end()
    assert_whole(state)
    assert_same_table(state, alone)
    lost = [row for row in attempts(state) if row.pattern == "node lost"]
    assert lost and {row.node for row in lost} == {"two"}
    assert "three" in {row.node for row in attempts(state)}
    assert any("two" in event.text and event.level == "warning" for event in events(state))


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the address, and the exit code of a machine that cannot train."""
    plan, state = tmp_path / "plan.yaml", new_state(tmp_path, None)
    plan.write_text(SHORT)
    with run_of(state, plan, "--on", "ray://127.0.0.1:1", environment=STUBS) as run:
        run.start()
        assert run.wait() == 1
        assert "127.0.0.1:1" in run.told() and "Traceback" not in run.output.read_text()


def _printed(*words: str) -> str:
    return subprocess.run([*COMMAND_LINE, *words], capture_output=True, text=True, check=True).stdout


def _trains_after(reader: Reader, many: int) -> bool | None:
    """Whether some training runs after so many ends."""
    ended = sum(row.outcome is not None for row in reader.attempts())
    return True if ended >= many and any(row.node for row in reader.unfinished()) else None


def _running_on(reader: Reader, node: str) -> bool | None:
    return True if any(row.node == node and row.spec.role != "probe" for row in reader.unfinished()) else None


def _has_one_ready() -> bool:
    """Whether some zygote has two workers, which look like it: one trains, and one gets ready."""
    stubs = [pid for pid in descendants(1) if b"tests.stub.zygote" in _command(pid)]
    return any(len([below for below in descendants(pid) if runs(below)]) == 2 for pid in stubs)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _bridge(run: Run) -> int:
    for pid in run.processes():
        if b"fsearch.cluster.bridge" in _command(pid):
            return pid
    raise AssertionError(f"there is no bridge after {time.monotonic()} s")
