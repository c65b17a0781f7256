"""`fsearch run` on a GPU: a whole search, twice, with the kernel it has built, and its readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsearch.daemon import nvml, record_path
from fsearch.search.rows import AHEAD
from fsearch.store import open_reader
from tests.end_to_end.conftest import SHORT
from tests.end_to_end.runs import assert_whole, attempts, daemon_of, new_state, numbers, run_of, verdicts
from tests.end_to_end.test_largest_batch import plan_in, probes, trainings

pytestmark = pytest.mark.usefixtures("gpu")


def test_a_search_on_the_gpu(tmp_path: Path, kernel_library: Path, with_gpus: dict[str, str]) -> None:
    """Lock and fingerprint name the GPU, every training has readings and energy, and a second run in another
    place gives the same table and weights to the digit."""
    plan = tmp_path / "short.yaml"
    plan.write_text(SHORT)
    states = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        state = new_state(tmp_path / name, kernel_library)
        with run_of(state, plan, "--device", "cuda:0", environment=with_gpus) as run:
            run.to_the_end()
        states.append(state)
    first, second = states
    assert_whole(first)
    assert numbers(first) == numbers(second)
    assert verdicts(first, plan) == verdicts(second, plan)
    uuids = {gpu.uuid: gpu.model for gpu in nvml.gpus()}
    lock = Path(daemon_of(first).lock).name
    uuid = lock.removeprefix("fsearch-").removesuffix(".lock")
    trained = [row for row in attempts(first) if row.spec.role not in AHEAD and row.pid is not None]
    assert {row.fingerprints["device"] for row in trained} == {uuids[uuid]}
    assert {row.backend for row in trained} == {"cuda1"}
    with open_reader(record_path(first)) as reader:
        for row in trained:
            samples = reader.telemetry(row.spec.id, row.try_number)
            assert samples and samples[-1].memory_mib is not None
            if samples[-1].energy_mj is not None:  # counted from Volta on
                assert row.energy_mj == samples[-1].energy_mj >= 0


def test_the_largest_batch_on_the_gpu(
    tmp_path: Path, kernel_library: Path, with_gpus: dict[str, str]
) -> None:
    """Under a limit of 2000 MiB a batch is found, by real steps, and no training of it runs out."""
    state = new_state(tmp_path, kernel_library)
    plan = plan_in(tmp_path, "largest", 2000)
    with run_of(state, plan, "--device", "cuda:0", environment=with_gpus) as run:
        run.to_the_end()
    rows = attempts(state)
    assert 1 <= len(probes(rows)) <= 6
    assert {row.outcome for row in probes(rows)} <= {"completed", "oom"}
    found = {row.spec.micro_batch for row in trainings(rows) if row.pid is not None}
    assert len(found) == 1 and found.pop() > 16
    assert {row.outcome for row in trainings(rows)} <= {"completed", "noop"}
