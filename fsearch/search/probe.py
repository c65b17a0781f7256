"""Which size to try next, so that the largest that fits in memory is found with few tries.

Memory is taken for a line a + b * size through two sizes that fit. Each try tightens a bracket: the largest
size that fits, the smallest that ran out. All of it is a function of the tries, so going on after a crash
asks for the same sizes again, and what was found is not looked for twice.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

TRIES = 6
"""The first try of `batch: largest`, and five more."""

MARGIN = 0.03
LEAST_MARGIN_MIB = 10
"""What a probe leaves free of the memory that a training may take.

Small allocations lie ever more scattered in the steps after the probe's two: by 9 MiB at most in the first 25
steps of eight shapes that took 36 to 512 MiB.
"""

_AIM = 0.99
"""Share of a probe's memory that a prediction aims at: most first predictions should fit."""

_CLOSE = 0.01
"""A bracket or a prediction that leaves no more than this share to be gained ends the search."""

_REACH = 4.0
"""How many times the measured span of memory a line is trusted to reach beyond it."""

_FIRST_STEP = 8
_LARGEST_STEP = 32
_STEP_BACK = 0.95


@dataclass(frozen=True, slots=True)
class Tried:
    """A size that was tried: the memory that it took, in MiB (None: not known), and whether it fitted."""

    size: int
    fits: bool
    peak_mib: float | None = None


def probe_memory_mib(memory_mib: int) -> int:
    """What a probe may take where a training may take `memory_mib`: 3 % less, at least 10 MiB."""
    return max(1, memory_mib - max(LEAST_MARGIN_MIB, math.ceil(MARGIN * memory_mib)))


def largest_that_fits(tried: Sequence[Tried]) -> int | None:
    """What was found, once `next_size` asks for nothing more; None if nothing fits."""
    return max((one.size for one in tried if one.fits), default=None)


def next_size(
    sizes: Sequence[int], tried: Sequence[Tried], memory_mib: float | None, first: int
) -> int | None:
    """The size to try next, of `sizes` (ascending); None when the largest that fits is known well enough.

    `memory_mib` is what a try may take, None where that is not known; `first` is tried first. Between the
    bracket's ends only sizes are tried that the line predicts to fit. Where 1 example does not fit, nothing
    does; memory that grows with the size is all that is assumed.
    """
    if not tried:
        return first
    low = largest_that_fits(tried) or 0
    high = min((one.size for one in tried if not one.fits), default=sizes[-1] + 1)
    between = sizes[bisect_right(sizes, low) : bisect_left(sizes, high)]
    if not between:
        return None
    if not low:
        return _nearest(between, math.isqrt(high))
    out = [one.size for one in tried if not one.fits]
    if out and between[-1] - low <= _CLOSE * low:
        return None
    known = sorted((one.size, one.peak_mib) for one in tried if one.fits and one.peak_mib is not None)
    if memory_mib is None or not known or not known[-1][1]:
        return between[len(between) // 2] if out else between[-1]
    size, peak = known[-1]
    surely = size * _AIM * memory_mib / peak  # fits even if nothing of the memory is constant
    slope = _slope(known)
    if slope is None:
        wanted = max(surely, _FIRST_STEP if size == 1 else 0.0)
        return _nearest(between, wanted if wanted < high else math.sqrt(low * high))
    reach = size + (memory_mib - peak) / slope if slope > 0 else math.inf
    if reach < between[0] or reach <= (1 + _CLOSE) * low:
        return None
    wrong = sum(one <= reach for one in out)  # of sizes that the line says fit
    if wrong == 1:
        return _nearest(between, _STEP_BACK * high)
    if wrong:
        least = surely if low < surely < high else low
        if len(tried) + 1 == TRIES and least > (1 + _CLOSE) * low:
            return _nearest(between, least)
        return _nearest(between, (least + high) / 2)
    aim = _AIM * memory_mib - peak
    if aim > _REACH * (peak - known[0][1]):
        aim /= 2
    return _nearest(between, min(_LARGEST_STEP * size, size + aim / slope if slope > 0 else math.inf))


def _slope(known: Sequence[tuple[int, float]]) -> float | None:
    """MiB an example, by the largest size that fits and the largest of half of it; None with one size."""
    if len(known) == 1:
        return None
    size, peak = known[-1]
    other, other_peak = max((one for one in known[:-1] if one[0] <= size / 2), default=known[0])
    return (peak - other_peak) / (size - other)


def _nearest(between: Sequence[int], wanted: float) -> int:
    """The largest of them that is not above `wanted`, else the smallest."""
    return between[max(0, bisect_right(between, wanted) - 1)]
