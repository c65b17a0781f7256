"""`batch: largest` under a limit on memory, beside the true largest: every size tried for what is trained."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fsearch import tasks
from fsearch.daemon import record_path
from fsearch.daemon.jobs import attempt_job
from fsearch.plan import Plan, Search, expand, parse
from fsearch.search.board import Run as Asked
from fsearch.search.rows import Attempt
from fsearch.search.specs import search_data_key, stage_spec
from fsearch.store import Reader, open_reader
from tests.end_to_end.runs import attempts, closing, new_state, run_of
from tests.train.processes import ZygoteProcess, zygote

MEMORY_MIB = 200

LONG_EXAMPLES = """
name: largest
seed: 0
model: {init: {n_layer: 2, n_embd: 128, head_size: 32}}
train: {lr: 1.0e-2}
stages:
  - {name: only, steps: 2, seeds: 3}
limits: {memory_mib: %d}
variants:
  - {name: raw, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
  - scalar_l1
tasks:
  - {task: infill, n_symbols: 4, n_masks: 40, n_left: 100, n_train: 2048, n_val: 48, batch: %s}
"""


def plan_in(folder: Path, batch: str, memory_mib: int = MEMORY_MIB) -> Path:
    path = folder / "plan.yaml"
    path.write_text(LONG_EXAMPLES % (memory_mib, batch))
    return path


def finished(folder: Path, kernel: Path, batch: str, memory_mib: int = MEMORY_MIB) -> list[Attempt]:
    """The rows of a run that nothing disturbed."""
    with run_of(new_state(folder, kernel), plan_in(folder, batch, memory_mib)) as run:
        run.to_the_end()
    return attempts(run.state)


def probes(rows: list[Attempt]) -> list[Attempt]:
    return [row for row in rows if row.spec.role == "probe"]


def trainings(rows: list[Attempt]) -> list[Attempt]:
    return [row for row in rows if row.spec.role in ("screen", "confirm")]


@pytest.fixture(scope="module")
def largest(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> tuple[Path, list[Attempt]]:
    """The state and the rows of a plan at the largest batch."""
    folder = tmp_path_factory.mktemp("largest")
    return folder / "state", finished(folder, kernel_library, "largest")


def trains(process: ZygoteProcess, plan: Plan, state: Path, batch: int, rows: list[Attempt]) -> bool:
    """Whether every kind of training of the plan ends at this batch within its memory."""
    search: Search = replace(expand(plan)[0], batch=batch)
    data = next(fact for fact in facts_of(state).values() if fact.key == search_data_key(search))
    kinds = [(stage, variant) for stage in search.stages for variant in (None, *search.variants)]
    for stage, variant in kinds:
        spec = stage_spec(search, stage, variant, 1, batch, MEMORY_MIB)
        job = attempt_job(
            Asked(spec, 1),
            data,
            None,
            fingerprint="",
            device="cpu",
            threads=rows[-1].fingerprints["threads"],
            backend=rows[-1].backend,
            state=state,
        )
        worker = process.fork({**job, "checkpoint": None})
        process.exited(worker)
        while not worker.reader.closed:
            worker.read()
        if worker.messages[-1]["type"] == "error":
            assert worker.messages[-1]["exception"].endswith("OutOfMemory"), worker.told()
            return False
    return True


def facts_of(state: Path) -> dict[str, Any]:
    with open_reader(record_path(state)) as reader:
        return reader.facts()


def test_what_is_found_is_the_largest(largest: tuple[Path, list[Attempt]], tmp_path: Path) -> None:
    """Within a tenth, or one example, of the largest batch that trains, in at most five tries after the
    first; nothing that was trained at it ran out of memory."""
    state, rows = largest
    tried, trained = probes(rows), trainings(rows)
    assert len(tried) <= 6 and len({row.spec.id for row in tried}) == len(tried)
    fitted = [row.spec.batch for row in tried if row.outcome == "completed"]
    assert {row.outcome for row in tried} <= {"completed", "oom"}
    found = max(fitted)
    assert {row.spec.batch for row in trained} == {row.spec.micro_batch for row in trained} == {found}
    assert {row.outcome for row in trained} == {"completed"} and len(trained) == 9
    assert {row.spec.memory_mib for row in [*tried, *trained]} == {MEMORY_MIB}

    plan = parse(plan_in(tmp_path, "largest").read_text(), tasks.schemas(), "plan.yaml")
    true = found
    with zygote(tmp_path, "--kernel-cache", str(state / "cache" / "kernel")) as process:
        while trains(process, plan, state, true + 1, rows):
            true += 1
    assert true >= 16, "the limit or the task is too small to say anything"
    assert true - found <= max(1, 0.1 * true), [(r.spec.batch, r.outcome, r.peak_memory_mib) for r in tried]


@pytest.mark.long
def test_killed_while_probing_it_goes_on(
    largest: tuple[Path, list[Attempt]], tmp_path: Path, kernel_library: Path
) -> None:
    """kill -9 of the daemon during the second and the third probe: what was tried is not tried again, what
    was being tried is, and the batch is that of another run but for what two measurements differ by."""
    state, plan = new_state(tmp_path, kernel_library), plan_in(tmp_path, "largest")
    for number in (2, 3):
        with run_of(state, plan) as run:
            run.start()

            def running(reader: Reader, number: int = number) -> bool | None:
                return len({row.spec.id for row in probes(reader.attempts())}) >= number or None

            run.until(running)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
    with run_of(state, plan) as run:
        run.to_the_end()
    rows = attempts(state)
    tried = [row.spec.id for row in probes(closing(rows))]
    assert len(tried) == len(set(tried)) <= 6
    died = [row.spec.id for row in probes(rows) if row.pattern == "daemon died"]
    assert len(died) == 2 and set(died) < set(tried)
    assert {row.outcome for row in trainings(rows)} == {"completed"} and len(trainings(rows)) == 9
    ((found,), (before,)) = ({row.spec.batch for row in trainings(some)} for some in (rows, largest[1]))
    assert abs(found - before) <= max(1, 0.05 * before)


@pytest.mark.parametrize(
    ("batch", "tried"),
    [
        pytest.param(
            "[{largest: {at_most: 4}}, 8]", {4: "completed", 8: "completed"}, marks=pytest.mark.long
        ),
        ("64", {64: "oom"}),
    ],
)
def test_other_ways_to_ask(batch: str, tried: dict[int, str], tmp_path: Path, kernel_library: Path) -> None:
    """A bound that fits takes one try; a number that does not fit is dealt into micro-batches that do."""
    rows = finished(tmp_path, kernel_library, batch)
    trained, found = trainings(rows), {row.spec.micro_batch: row.outcome for row in probes(rows)}
    assert {row.outcome for row in trained} == {"completed"}
    assert {row.spec.batch for row in trained} == set(tried) and found | tried == found
    if batch == "64":
        assert {row.spec.micro_batch for row in trained} == {max(n for n in found if found[n] == "completed")}
    else:
        assert found == tried


def test_nothing_fits(tmp_path: Path, kernel_library: Path) -> None:
    """The search fails in words, with the limit and what one example took; nothing is trained."""
    with run_of(new_state(tmp_path, kernel_library), plan_in(tmp_path, "largest", 20)) as run:
        run.to_the_end()
    rows = attempts(run.state)
    assert trainings(rows) == [] and [row.spec.batch for row in probes(rows)] == [1]
    said = " ".join(run.output.read_text().split())
    assert "nothing fits within 10 MiB (the plan's limits.memory_mib, less a margin)" in said
    assert "with a micro-batch of one example, out of memory with 1 example of up to " in said
    assert "MiB of 10 MiB that it may take were taken" in said
