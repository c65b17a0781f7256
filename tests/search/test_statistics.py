"""The formulas agree with scipy and statsmodels; what they print agrees with simulated rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from fsearch.search.statistics import holm, noise_sd, operating_card, paired_t, seeds_needed

RNG = np.random.Generator(np.random.PCG64(20_250_101))
CASES = [
    RNG.normal(mean, sd, n) for n in (2, 3, 5, 8, 30) for mean in (-0.02, 0.0, 0.013) for sd in (0.004, 0.03)
]
PUNCTUATION = [0.0080, 0.0058, 0.0220, 0.0241, 0.0064]


@pytest.mark.parametrize("values", CASES)
@pytest.mark.parametrize("margin", [0.0, 0.01, -0.01])
def test_the_paired_t_is_that_of_scipy(values: np.ndarray, margin: float) -> None:
    """One-sided p values on both sides of any margin, and the two-sided 95 % interval."""
    test, baseline = paired_t(values.tolist()), np.full(len(values), margin)
    greater = stats.ttest_rel(values, baseline, alternative="greater")
    less = stats.ttest_rel(values, baseline, alternative="less")
    assert test.p_greater(margin) == pytest.approx(greater.pvalue, rel=1e-9)
    assert test.p_less(margin) == pytest.approx(less.pvalue, rel=1e-9)
    interval = stats.ttest_rel(values, np.zeros(len(values))).confidence_interval(0.95)
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (test.n, test.mean, test.sd) == (
        len(values),
        pytest.approx(values.mean()),
        pytest.approx(values.std(ddof=1)),
    )


@pytest.mark.parametrize("values", CASES)
@pytest.mark.parametrize("margin", [0.005, 0.01, 0.05])
def test_equivalence_is_that_of_statsmodels(values: np.ndarray, margin: float) -> None:
    """Two one-sided tests against plus and minus the margin."""
    p, _, _ = ttost_paired(values, np.zeros(len(values)), -margin, margin)
    assert paired_t(values.tolist()).p_equivalent(margin) == pytest.approx(p, rel=1e-9)


def test_the_best_replicated_result_of_the_drafts() -> None:
    """Five seeds of punctuation: +1.33 pp, interval +0.21 to +2.44, one-sided p .015, above 1 pp p .23."""
    test = paired_t(PUNCTUATION)
    assert [round(100 * value, 2) for value in (test.mean, test.low, test.high)] == [1.33, 0.21, 2.44]
    assert round(test.p_greater(), 3) == 0.015
    assert round(test.p_greater(0.01), 2) == 0.23


def test_differences_without_spread_decide_by_their_sign() -> None:
    """Equal differences have a standard error of 0 and no t; a tie is not above zero."""
    same = paired_t([0.25, 0.25, 0.25])
    assert (same.p_greater(), same.p_less(), same.p_greater(0.25)) == (0.0, 1.0, 1.0)
    assert (same.low, same.high) == (0.25, 0.25)
    assert (same.p_equivalent(0.5), same.p_equivalent(0.125)) == (0.0, 1.0)


@pytest.mark.parametrize("values", [[], [0.1]])
def test_fewer_than_two_differences_have_no_test(values: list[float]) -> None:
    """One seed says nothing of the spread."""
    with pytest.raises(ValueError, match="at least 2"):
        paired_t(values)


P_VALUES = [
    [0.03],
    [0.0, 0.0, 1.0],
    [0.01, 0.01, 0.01, 0.02],
    [0.05, 0.04, 0.03, 0.02, 0.01],
    [1.0, 0.9, 0.5],
    *((RNG.random(n) ** 3).tolist() for n in (2, 3, 5, 8, 12, 20)),
]


@pytest.mark.parametrize("p_values", P_VALUES)  # few: the oracle collects garbage at every call
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    """Adjusted p values in the order given, ties and ends included."""
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected), rel=1e-12, abs=1e-300)


def test_holm_of_nothing_is_nothing() -> None:
    """A plan that promotes no variant has no test."""
    assert holm([]) == []


@pytest.mark.parametrize("scores", [[0.5, 0.25], [0.1, 0.2, 0.4], [0.3] * 4])
def test_the_noise_of_a_difference_is_that_of_two_runs(scores: list[float]) -> None:
    """sqrt(2) times the sample standard deviation of the baseline's scores."""
    assert noise_sd(scores) == pytest.approx(math.sqrt(2) * np.std(scores, ddof=1))


def test_one_run_has_no_noise_to_tell() -> None:
    """Neither has none."""
    assert noise_sd([]) is None and noise_sd([0.5]) is None


@pytest.mark.parametrize(
    ("sd", "delta", "seeds"),
    [(0.009, 0.01, 6), (0.009, 0.02, 2), (0.0225, 0.01, 32), (0.0225, 0.02, 8), (0.0225, 0.04, 2)],
)
def test_the_seeds_still_needed(sd: float, delta: float, seeds: int) -> None:
    """The table of the protocol: 80 % power at a one-sided 5 %, never under two."""
    assert seeds_needed(sd, delta) == seeds


@pytest.mark.parametrize("sd", [0.0, 0.0025, 0.0225])
@pytest.mark.parametrize("prune_below", [-0.005, 0.0, 0.001, 0.01])
def test_the_operating_card_is_what_happens(sd: float, prune_below: float) -> None:
    """Shares of useless variants that pass and of useful ones that are lost, against 100,000 draws."""
    draws, at_least = 100_000, 0.01
    card = operating_card(prune_below, at_least, sd)
    noise = np.random.Generator(np.random.PCG64(5)).normal(0.0, sd, draws) if sd else np.zeros(draws)
    kept = (noise >= prune_below) & (noise != 0.0)
    lost = noise + at_least < prune_below
    error = 4 * math.sqrt(0.25 / draws)
    assert card.false_keep == pytest.approx(kept.mean(), abs=error)
    assert card.false_prune == pytest.approx(lost.mean(), abs=error)
    assert card.below_noise == (abs(prune_below) < sd / 4)
