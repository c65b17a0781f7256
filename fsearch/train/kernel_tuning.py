"""The measurement of `fsearch bench kernel --tune`: v1 beside v2, at a few shapes, as the table of choices.

Deliberately not here: how a shape is measured (fsearch.train.kernel_measurement), what follows from a table
(fsearch.kernels.choice), and its file (fsearch.kernels.tuning).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from fsearch.kernels.choice import LEAST_TOKENS, Measurement
from fsearch.train.contender import Shape

PAIR = ("cuda1", "cuda2")

SHAPES = tuple(
    Shape(B, T, 768 // N, N) for N in (64, 128) for T in (LEAST_TOKENS, 256, 1024, 4096) for B in (1, 4, 16)
)
"""The heads of the 0.1B model, in batches from one example to many. Models have the "sigmoid" decay alone."""

DECAY = "sigmoid"


def table_of(
    rows: Iterable[dict[str, Any]], architecture: str, pair: Sequence[str] = PAIR
) -> list[Measurement]:
    """A measurement of each shape that both kernels ran."""
    times: dict[Shape, dict[str, float]] = {}
    for row in rows:
        if not row["left_out"]:
            shape = Shape(*(row[name] for name in "BTHN"))
            times.setdefault(shape, {})[row["contender"]] = row["forward_backward"]["median_s"] * 1e3
    first, second = pair
    return [
        Measurement(architecture, DECAY, **asdict(shape), v1_ms=found[first], v2_ms=found[second])
        for shape, found in times.items()
        if len(found) == 2
    ]
