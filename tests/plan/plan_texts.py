"""Plan texts that the tests of the plan start from."""

from __future__ import annotations

from fsearch.plan import Plan, parse
from fsearch.tasks import schemas

SCHEMAS = schemas()

COMPLETE = """\
name: protein and punctuation
seed: 0                                            # master seed: enters every stream and id
model: {checkpoint: models/rwkv7-g1d-0.1b-20260129-ctx8192.pth}   # or {init: {n_layer: 3, n_embd: 32}}
train: {lr: 3.0e-5, weight_decay: 0.01}
stages:                                            # all but the last screen, the last confirms
  - {name: quick, steps: 180}                      # a screening stage has one seed
  - {name: medium, steps: 560, seeds: 5}
screen: {prune_below: 0.001, promote_at_most: 3, noise_floor_seeds: 3}
claim: {at_least: 0.01, alpha: 0.05}
limits: {retries: 5, wait_network: forever}
variants: [scalar_l8_sched_cos, scalar_l10_trainable, head_l8, scalar_l12]
tasks:
  - {task: protein_ss, order: q_after, batch: largest}
  - {task: punctuation, source: hotpot_qa, batch: 2, train: {lr: [3.0e-5, 1.0e-4]}}   # a list is a sweep
  - {task: mbpp, order: q_after, batch: [2, 4, 8]}
"""

GOOD = """\
name: small
seed: 7
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 5.0e-3, betas: [0.9, 0.98]}
stages:
  - {name: quick, steps: 180}
  - {name: medium, steps: 560, seeds: 5}
screen: {prune_below: 0.001, noise_floor_seeds: 2}
claim: {at_least: 0.01, alpha: 0.05}
variants:
  - scalar_l1
  - {name: strong, gate: scalar, alpha: 2, norm: false, clip: null}
tasks:
  - {task: infill, batch: 32, n_masks: 8}
  - {task: kv_recall, order: q_after, batch: [8, 16]}
"""


def read(text: str) -> Plan:
    return parse(text, SCHEMAS, "plan.yaml")


def edit(old: str, new: str, text: str = GOOD) -> str:
    """`text` with the one place where `old` stands replaced."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the plan"
    return text.replace(old, new)


def line_of(part: str, text: str) -> int:
    """The line, counted from 1, on which `part` stands."""
    assert text.count(part) == 1
    return text[: text.index(part)].count("\n") + 1
