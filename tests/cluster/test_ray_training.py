"""Real trainings on a real cluster: the plans that come with fsearch give the table of one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.clusters import cluster_of
from tests.cluster.test_ray import assert_same_table
from tests.end_to_end.conftest import SHORT
from tests.end_to_end.runs import assert_whole, attempts, new_state, run_of

pytest.importorskip("ray")

PLANS = Path(__file__).parents[2] / "plans"
LIMIT_S = 4 * 3600.0
QUIET = {"OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("plan", ["short", "demo", "controls"])
def test_the_table_is_that_of_one_machine(plan: str, tmp_path: Path, kernel_library: Path) -> None:
    """Every number of every row, to the digit, from two nodes of one place each."""
    text = SHORT if plan == "short" else (PLANS / f"{plan}.yaml").read_text()
    with cluster_of(tmp_path / "nodes", kernel_library, QUIET) as nodes:
        nodes.add("one")
        nodes.add("two")
        states = []
        for name, options in (("alone", ["--device", "cpu"]), ("cluster", ["--on", nodes.address])):
            folder = tmp_path / name
            folder.mkdir()
            state = new_state(folder, kernel_library)
            (folder / "plan.yaml").write_text(text)
            with run_of(state, folder / "plan.yaml", *options, environment=QUIET) as run:
                run.start()
                assert run.wait(LIMIT_S) == 0, run.told()
            assert_whole(state)
            states.append(state)
    assert_same_table(states[1], states[0])
    assert {row.node for row in attempts(states[1]) if row.spec.role == "confirm"} == {"one", "two"}
