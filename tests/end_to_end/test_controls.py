"""What is there is found, what is not there is not claimed: the controls and the A/A arm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.runs import assert_whole, new_state, run_of, standing

CONTROLS = Path(__file__).parents[2] / "plans" / "controls.yaml"
LIMIT_S = 4 * 3600.0

SHORT = """
name: short controls
seed: %d
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 2.0e-2}
stages:
  - {name: confirm, steps: 100, seeds: 4}
claim: {at_least: 0.05}
variants:
  - {name: raw_strong, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
  - {name: aa, stream: 1}
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 512, n_val: 256, batch: 16}
  - {task: kv_recall, order: q_first, n_values: 4, n_train: 512, n_val: 256, batch: 16}
"""


def words(state: Path, plan: Path) -> dict[tuple[str, str], str]:
    """The verdict of each variant in each search, by the search's label."""
    stands = standing(state, plan)
    assert stands.finished
    labels = [board.search.label for board in stands.boards]
    verdicts = {(labels[index], name): verdict for (index, name), verdict in stands.verdicts.items()}
    assert not any(verdict.provisional for verdict in verdicts.values())
    return {place: verdict.word for place, verdict in verdicts.items()}


def ran(folder: Path, kernel: Path, text: str) -> dict[tuple[str, str], str]:
    plan, state = folder / "plan.yaml", new_state(folder, kernel)
    plan.write_text(text)
    with run_of(state, plan) as run:
        run.start()
        assert run.wait(LIMIT_S) == 0, run.told()
    assert_whole(state)
    return words(state, plan)


@pytest.mark.parametrize("master_seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_the_positive_control_alone_gains(master_seed: int, tmp_path: Path, kernel_library: Path) -> None:
    """In seconds: the strong gate on infill is `at_least_delta`; it is not where the question comes first,
    and the A/A arm is not anywhere."""
    found = ran(tmp_path, kernel_library, SHORT % master_seed)
    assert len(found) == 4
    assert [place for place, word in found.items() if word == "at_least_delta"] == [("infill", "raw_strong")]


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("master_seed", [0, 1, 2])
def test_the_controls_control(master_seed: int, tmp_path: Path, kernel_library: Path) -> None:
    """plans/controls.yaml: `raw_strong` is `at_least_delta` at every size of infill, no arm is with the
    question first, and the A/A arm is nowhere."""
    text = CONTROLS.read_text()
    assert "\nseed: 0\n" in text
    found = ran(tmp_path, kernel_library, text.replace("\nseed: 0\n", f"\nseed: {master_seed}\n"))
    assert len(found) == 21
    gains = {place for place, word in found.items() if word == "at_least_delta"}
    assert {(f"infill n_masks={size}", "raw_strong") for size in (4, 8, 16)} <= gains
    assert not [place for place in gains if place[0].startswith("kv_recall q_first") or place[1] == "aa"]
