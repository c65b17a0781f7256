"""Would more questions change a finding? Intervals and tests over examples, for fixed checkpoints.

They stand beside the test over seeds and never in its place: they know nothing of what another training
would have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

DRAWS = 10_000
FEWEST = 100
"""Documents under which a bootstrap interval is too narrow to be shown."""

_CELLS = 1 << 21  # indices drawn at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """One seed's questions that only one of both answers right."""

    gained: int  # right with the variant, wrong with its baseline
    lost: int
    p: float  # two-sided, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleEffect:
    """The mean difference of the trained checkpoints, over other questions of the same kind."""

    examples: int
    documents: int
    low: float  # percentile interval, 95 %
    high: float
    mcnemar: tuple[McNemar, ...]  # by seed, where every question is right or wrong and stands for itself


def example_effect(
    variant: Floats, baseline: Floats, documents: Sequence[int], stream: int
) -> ExampleEffect | None:
    """What the examples say of the checkpoints; None under `FEWEST` documents.

    variant, baseline: [seeds, n] share of right tokens of each example; documents: [n] what each example
    was made from; stream: seed of the draws, so that one finding has one interval.
    """
    each = np.unique(np.asarray(documents))
    if len(each) < FEWEST:
        return None
    low, high = bootstrap_interval((variant - baseline).mean(axis=0), documents, stream)
    binary = bool(np.isin(variant, (0.0, 1.0)).all() and np.isin(baseline, (0.0, 1.0)).all())
    tests = binary and len(each) == len(documents)
    return ExampleEffect(
        examples=len(documents),
        documents=len(each),
        low=low,
        high=high,
        mcnemar=tuple(mcnemar(*pair) for pair in zip(variant, baseline, strict=True)) if tests else (),
    )


def bootstrap_interval(values: Floats, documents: Sequence[int], stream: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of values [n], whole documents drawn anew (Efron 1979)."""
    _, of = np.unique(np.asarray(documents), return_inverse=True)
    sums, sizes = np.bincount(of, weights=values), np.bincount(of)
    rng = np.random.Generator(np.random.PCG64(stream))
    means = np.empty(DRAWS)
    at_a_time = max(1, _CELLS // len(sums))
    for start in range(0, DRAWS, at_a_time):
        part = means[start : start + at_a_time]
        drawn = rng.integers(len(sums), size=(len(part), len(sums)))
        part[:] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def mcnemar(variant: Floats, baseline: Floats) -> McNemar:
    """McNemar's exact test of two rows [n] of zeros and ones (McNemar 1947; binomial of 1/2)."""
    gained, lost = int(np.sum(variant > baseline)), int(np.sum(variant < baseline))
    p = min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    return McNemar(gained=gained, lost=lost, p=p)
