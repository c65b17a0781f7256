"""Plans on data of a hub that is away, comes back, stays away, or has too little, with the real daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsearch.search.rows import Attempt
from fsearch.store import DaemonRecord, Reader, open_reader
from fsearch.tasks import prepared
from tests.end_to_end.runs import (
    LIMIT_S,
    Run,
    assert_whole,
    attempts,
    events,
    new_state,
    standing,
)
from tests.hub import Fault, Hub, tables
from tests.tables import Tables, arc
from tests.ui.commands import fsearch

PLAN = """
name: outage
seed: 3
model: {{init: {{n_layer: 2, n_embd: 16, head_size: 8}}}}
train: {{lr: 5.0e-3}}
stages:
  - {{name: quick, steps: 2}}
  - {{name: medium, steps: 2, seeds: 3}}
screen: {{prune_below: 0.45}}
limits: {limits}
variants: [scalar_l1]
tasks:
  - {{task: arc, tokenizer: bytes, revision: main, n_train: {n_train}, n_val: 16, batch: 4}}
  - {{task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 64, n_val: 16, batch: 8}}
"""

AWAY = Fault("", "reset")
"""Every connection is reset at once."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(tables([arc])) as hub:
        yield hub


def outage_run(
    folder: Path, kernel: Path, hub: Hub, limits: str = "{}", n_train: int = 40, home: Path | None = None
) -> Run:
    """A run of such a plan that downloads from `hub`."""
    plan = folder / "plan.yaml"
    plan.write_text(PLAN.format(limits=limits, n_train=n_train))
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home or folder / "hf"),
        "HF_HUB_OFFLINE": "0",
    }
    return Run(new_state(folder, kernel), plan, environment=environment)


def preparations(rows: list[Attempt]) -> list[Attempt]:
    """Of the data that are downloaded."""
    return [row for row in rows if row.spec.role == "prepare" and row.spec.task == "arc"]


def missed(reader: Reader) -> Attempt | None:
    """The first try that found no hub."""
    return next((row for row in reader.attempts() if row.outcome == "network_wait"), None)


def all_but_the_hub(reader: Reader) -> DaemonRecord | None:
    """The daemon, once the search that needs no hub has ended and the other is waited for."""
    done = [
        row for row in reader.attempts() if row.spec.variant == "scalar_l1" and row.outcome == "completed"
    ]
    daemon = reader.daemon()
    waits = daemon is not None and "next try in" in daemon.step and missed(reader)
    return daemon if any(row.spec.role == "screen" for row in done) and waits else None


def assert_same_data(run: Run, cache: Path) -> None:
    """The data are those that the same rows give without any hub."""
    (arguments,) = {
        str(row.spec.arguments): row.spec.arguments for row in preparations(attempts(run.state))
    }.values()
    wanted = prepared.prepare("arc", arguments, 3, cache, sources=Tables()).meta
    with open_reader(run.state / "fsearch.db") as reader:
        (fact,) = [fact for fact in reader.facts().values() if fact.origins]
    assert fact.sha256 == wanted.sha256
    assert {origin["name"] for origin in fact.origins} == {arc.REPO}
    assert {origin["commit"] for origin in fact.origins} == {"4" * 40}


def test_a_hub_that_comes_back_in_the_same_run(tmp_path: Path, kernel_library: Path, hub: Hub) -> None:
    """The other search ends meanwhile; what is waited for is shown, and what came back is told once."""
    hub.faults.append(AWAY)
    run = outage_run(tmp_path, kernel_library, hub)
    try:
        run.start()
        daemon = run.until(all_but_the_hub)
        assert daemon.step.startswith(f"waiting for {arc.REPO}: ") and "reset by peer" in daemon.step
        shown = fsearch("status", "--once", "--state", run.state, cwd=tmp_path).stdout
        assert f"waiting for {arc.REPO}" in shown and "next try in" in " ".join(shown.split())
        hub.faults.clear()
        run.to_the_end()
    finally:
        run.end()
    assert_whole(run.state)
    outcomes = [row.outcome for row in preparations(attempts(run.state))]
    assert set(outcomes[:-1]) == {"network_wait"} and outcomes[-1] == "completed"
    assert not any(board.failed for board in standing(run.state, run.plan).boards)
    told = [event.text for event in events(run.state)]
    assert [text.partition(":")[0] for text in told if "waiting" in text or "network" in text] == [
        "waiting for the data of arc, trying again at longer and longer intervals",
        "the network is back",
    ]
    assert_same_data(run, tmp_path / "again")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_during_an_outage(
    how: signal.Signals, tmp_path: Path, kernel_library: Path, hub: Hub
) -> None:
    """The next one, with the hub back, finishes with the same data."""
    hub.faults.append(AWAY)
    run = outage_run(tmp_path, kernel_library, hub)
    try:
        run.start()
        run.until(missed)
        os.kill(run.pid, how)
        assert run.wait(LIMIT_S) == (130 if how == signal.SIGTERM else -how)
        hub.faults.clear()
        run.to_the_end()
    finally:
        run.end()
    assert_whole(run.state)
    assert not any(board.failed for board in standing(run.state, run.plan).boards)
    assert_same_data(run, tmp_path / "again")


def test_a_limit_to_waiting(tmp_path: Path, kernel_library: Path, hub: Hub) -> None:
    """75 and a sentence when it is over, with the rest done; the next run asks again and finishes."""
    hub.faults.append(AWAY)
    run = outage_run(tmp_path, kernel_library, hub, limits="{wait_network: 3}")
    try:
        run.start()
        assert run.wait(LIMIT_S) == 75, run.told()
        given_up, done = standing(run.state, run.plan).boards
        assert given_up.outage is not None and given_up.outage.what == arc.REPO
        assert 3.0 <= given_up.outage.waited_s < 60.0
        assert done.finished and not done.failed
        told = " ".join(run.output.read_text().split())
        assert f"Waited in vain, as long as limits.wait_network says, for {arc.REPO} (" in told
        assert f"go on with: fsearch run {run.plan} --state {run.state}" in told
        before = attempts(run.state)
        assert {row.outcome for row in preparations(before)} == {"network_wait"}

        hub.faults.clear()
        run.to_the_end()
    finally:
        run.end()
    assert attempts(run.state)[: len(before)] == before
    assert_whole(run.state)
    assert not any(board.failed for board in standing(run.state, run.plan).boards)
    assert_same_data(run, tmp_path / "again")


def test_more_examples_than_there_are(tmp_path: Path, kernel_library: Path, hub: Hub) -> None:
    """The counts, before anything of that search trains; the other search is done, and the code is 0."""
    run = outage_run(tmp_path, kernel_library, hub, n_train=5000)
    try:
        run.to_the_end()
    finally:
        run.end()
    assert_whole(run.state)
    short, done = standing(run.state, run.plan).boards
    assert "(data_short)" in short.failed and "of 5000 training examples" in short.failed
    assert "candidates" in short.failed and "empty question" in short.failed
    assert done.finished and not done.failed
    rows = attempts(run.state)
    assert [row.outcome for row in preparations(rows)] == ["data_short"]
    assert {row.spec.task for row in rows if row.spec.role in ("probe", "screen")} == {"infill"}


def test_a_cache_that_cannot_be_written(tmp_path: Path, kernel_library: Path, hub: Hub) -> None:
    """Where the hub's cache may not be made, its search says so; the other one is done, and the code is 0."""
    run = outage_run(tmp_path, kernel_library, hub, limits="{retries: 0}", home=Path("/sys/fsearch-test"))
    try:
        run.to_the_end()
    finally:
        run.end()
    refused, done = standing(run.state, run.plan).boards
    assert "(disk_refused)" in refused.failed and "/sys/fsearch-test" in refused.failed
    assert "Once that is mended, start again." in refused.failed
    assert done.finished and not done.failed
