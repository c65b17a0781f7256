"""`train.recompute: auto` under a limit on memory that not one example keeps to without it."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.runs import attempts, new_state, run_of

MEMORY_MIB = 40
"""Of which a probe may take 30: one example takes 41 without and 14 with layers recomputed."""

DEEP = """
name: deep
seed: 0
model: {init: {n_layer: 16, n_embd: 32, head_size: 16}}
train: {lr: 1.0e-2, recompute: auto}
stages:
  - {name: only, steps: 2, seeds: 3}
limits: {memory_mib: %d}
variants: [scalar_l1]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 80, n_left: 200, n_train: 64, n_val: 8, batch: 1}
"""


def test_what_fits_only_with_layers_recomputed_is_trained_so(tmp_path: Path, kernel_library: Path) -> None:
    """The probe without runs out of memory, the one with does not; every training has layers recomputed, and
    ends within its limit."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(DEEP % MEMORY_MIB)
    with run_of(new_state(tmp_path, kernel_library), plan) as run:
        run.to_the_end()
    rows = [row for row in attempts(run.state) if row.spec.role in ("probe", "confirm")]
    found = [(row.spec.role, row.spec.recompute, row.outcome) for row in rows]
    assert found[:2] == [("probe", "off", "oom"), ("probe", "layers", "completed")]
    assert found[2:] == [("confirm", "layers", "completed")] * 6
    said = " ".join(run.output.read_text().split())
    assert "batch 1 fits with layers recomputed" in said
    assert "layers recomputed: without, not one example fits" in said
