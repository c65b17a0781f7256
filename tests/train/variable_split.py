"""Examples of many lengths, some of them targets, some of those scored: for what no single task shows."""

from __future__ import annotations

import numpy as np

from fsearch.tasks.prepared import Split

VOCAB_SIZE = 13


def variable_split(seed: int = 0, n: int = 23) -> Split:
    """`n` random examples of 3 to 20 tokens, each with at least one scored target."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 21, n)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    size = int(offsets[-1])
    targets = np.where(rng.random(size) < 0.4, rng.integers(0, VOCAB_SIZE, size), -1)
    scored = (rng.random(size) < 0.7) & (targets >= 0)
    targets[offsets[1:] - 2] = rng.integers(0, VOCAB_SIZE, n)
    scored[offsets[1:] - 2] = True
    return Split(
        tokens=rng.integers(1, VOCAB_SIZE, size).astype(np.int32),
        targets=targets.astype(np.int32),
        scored=scored,
        offsets=offsets,
        prompt_len=rng.integers(1, lengths + 1).astype(np.int32),
        document=np.arange(n, dtype=np.uint64),
    )
