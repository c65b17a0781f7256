"""What may be said of each promoted variant, after correction for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fsearch.search.statistics import PairedT, holm, paired_t, seeds_needed

Word = Literal["at_least_delta", "worse", "better_than_zero", "equivalent", "inconclusive"]

FIRST_LEVEL, SECOND_LEVEL = 0.02, 0.035
"""Levels of the two looks of a top-up, at 3 and at 5 seeds: together 5 % of plans without any effect may
claim one (simulated 4.9 %; .02 and .04 would be 5.3 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One sentence's worth: the word, the paired t behind it, and the corrected p values."""

    word: Word
    provisional: bool  # more tests are still to come, and with them more correction
    level: float  # that the corrected p values were held against
    paired: PairedT
    p_at_least: float  # corrected, of "the gain is above the margin"
    p_better: float  # corrected, of "the gain is above zero"
    seeds_needed: int | None  # where inconclusive: seeds for the margin at the spread seen


def verdicts(
    differences: Sequence[Sequence[float]],
    at_least: float,
    alpha: float,
    *,
    promoted: int = 0,
    provisional: bool,
) -> list[Verdict]:
    """A verdict for each tested variant's paired differences, in their order.

    Each question (above the margin, below zero, above zero, within the margin) is one family of
    one-sided tests at `alpha`, corrected by Holm over all `promoted` variants of the plan: those
    beyond the tested ones, which failed on a seed or wait for theirs, count as tests that showed
    nothing.
    """
    tests = [paired_t(values) for values in differences]

    def corrected(p_values: list[float]) -> list[float]:
        return holm([*p_values, *[1.0] * (promoted - len(p_values))])[: len(p_values)]

    p_at_least = corrected([test.p_greater(at_least) for test in tests])
    p_worse = corrected([test.p_less() for test in tests])
    p_better = corrected([test.p_greater() for test in tests])
    p_equivalent = corrected([test.p_equivalent(at_least) for test in tests])
    result = []
    for i, test in enumerate(tests):
        word: Word = "inconclusive"
        if p_at_least[i] <= alpha:
            word = "at_least_delta"
        elif p_worse[i] <= alpha:
            word = "worse"
        elif p_better[i] <= alpha:
            word = "better_than_zero"
        elif p_equivalent[i] <= alpha:
            word = "equivalent"
        result.append(
            Verdict(
                word=word,
                provisional=provisional,
                level=alpha,
                paired=test,
                p_at_least=p_at_least[i],
                p_better=p_better[i],
                seeds_needed=seeds_needed(test.sd, at_least, alpha) if word == "inconclusive" else None,
            )
        )
    return result


def undecided(first_look: Sequence[Verdict]) -> list[bool]:
    """Who gets further seeds after the first look."""
    return [verdict.word == "inconclusive" for verdict in first_look]


def second_look(
    first_look: Sequence[Verdict],
    first: Sequence[Sequence[float]],
    later: Sequence[Sequence[float] | None],
    at_least: float,
    *,
    promoted: int = 0,
    provisional: bool,
) -> list[Verdict | None]:
    """The verdicts after a top-up, in the order of the first look.

    What the first look has decided, on the differences `first`, stays as it was said, and takes part in
    the correction with those. `later` has the differences of all seeds; None for a variant that waits for
    some of them or has failed on one, and has no verdict.
    """
    again = undecided(first_look)
    asked = [all_of if more else few for few, more, all_of in zip(first, again, later, strict=True)]
    known = [values for values in asked if values is not None]
    found = iter(verdicts(known, at_least, SECOND_LEVEL, promoted=promoted, provisional=provisional))
    second = [None if values is None else next(found) for values in asked]
    return [new if more else old for old, new, more in zip(first_look, second, again, strict=True)]
