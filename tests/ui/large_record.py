"""A larger synthetic record: eight searches over batch, learning rate and order, variants of three layers.

It has what pages are hard with: a name longer than any column, a variant that gains here and loses there, and
failures.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.record import fill, the_plan

LONG_NAME = "a_variant_whose_name_is_much_longer_than_any_column_of_a_table_or_plot_can_be"

PLAN = f"""\
name: a larger plan
seed: 3
model: {{init: {{n_layer: 4, n_embd: 32, head_size: 8}}}}
train: {{lr: [1.0e-3, 5.0e-3]}}
stages:
  - {{name: quick, steps: 180}}
  - {{name: medium, steps: 560, seeds: 3}}
screen: {{prune_below: 0.01, promote_at_most: 3, noise_floor_seeds: 1}}
claim: {{at_least: 0.05}}
variants:
  - {{name: strong_l1, gate: scalar, alpha: 2, norm: false, detach: false}}
  - {{name: strong_l2, gate: scalar, alpha: 2, layer_start: 2, norm: false, detach: false}}
  - {{name: strong_l3, gate: scalar, alpha: 2, layer_start: 3, norm: false, detach: false}}
  - {{name: {LONG_NAME}, gate: head, alpha: 1}}
  - {{name: wild, gate: scalar, alpha: 9}}
tasks:
  - {{task: kv_recall, order: q_after, batch: [8, 32]}}
  - {{task: kv_recall, order: q_first, batch: [8, 32]}}
"""


class _Levels(dict[str, float]):
    """What the baseline scores in a search, by its label."""

    def __missing__(self, label: str) -> float:
        return 0.30 if "q_after" in label else 0.55


class _Effects(dict[str, dict[str, float]]):
    """What a variant gains in a search: less from deeper layers, more with the larger batch, and the contrary
    where the question comes first."""

    def __missing__(self, label: str) -> dict[str, float]:
        size = 0.20 if "batch=32" in label else 0.12
        sign = 1.0 if "q_after" in label else -0.4
        deep = {f"strong_l{layer}": sign * size * (4 - layer) / 3 for layer in (1, 2, 3)}
        if "q_first" in label:  # on the screening seed alone it looks better
            deep = {name: 0.02 if name == "strong_l1" else effect for name, effect in deep.items()}
        return {**deep, LONG_NAME: 0.03}


def fill_large(state: Path) -> None:
    """Write the record of the plan, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.ui.record.BASE", _Levels())
        patch.setattr("tests.ui.record.EFFECT", _Effects())
        fill(state, the_plan(PLAN))
