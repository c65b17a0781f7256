"""The demo finds what its plan says it must find, whatever the master seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.runs import assert_whole, attempts, new_state, run_of, standing

DEMO = Path(__file__).parents[2] / "plans" / "demo.yaml"
LIMIT_S = 3600.0


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("master_seed", [0, 1, 2])
def test_the_demo_finds_its_controls(master_seed: int, tmp_path: Path, kernel_library: Path) -> None:
    """The positive control is found and confirmed, no_fs is at chance there, nothing is claimed of the
    negative control, something is pruned, and the no-op is named without having been trained."""
    plan = tmp_path / "demo.yaml"
    plan.write_text(DEMO.read_text().replace("\nseed: 0\n", f"\nseed: {master_seed}\n"))
    state = new_state(tmp_path, kernel_library)
    with run_of(state, plan) as run:
        run.start()
        assert run.wait(LIMIT_S) == 0, run.told()
        told = run.output.read_text()
    assert_whole(state)
    stands = standing(state, plan)
    infill, _, q_first = stands.boards

    strong = stands.verdicts[0, "raw_strong"]
    assert strong.word == "at_least_delta" and not strong.provisional
    assert strong.paired.n == 5 and strong.paired.low > 0.05
    assert f"[{strong.paired.low * 100:+.2f}, {strong.paired.high * 100:+.2f}]" in told
    medium = [row.score for (stage, _), row in infill.baselines.items() if stage == "medium"]
    assert len(medium) == 5 and all(abs((score or 0.0) - 1 / 8) < 0.03 for score in medium)

    words = {name: verdict.word for (index, name), verdict in stands.verdicts.items() if index == 2}
    assert q_first.finished and "at_least_delta" not in words.values()
    assert any(entry.exit == "pruned" for board in stands.boards for entry in board.variants)
    for board in stands.boards:
        (noop,) = [entry for entry in board.variants if entry.variant.name == "scalar_l3"]
        assert noop.exit == "noop" and "not trained" in noop.reason
    assert not [row for row in attempts(state) if row.spec.variant == "scalar_l3" and row.pid is not None]
