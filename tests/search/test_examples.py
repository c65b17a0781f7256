"""What single examples say of fixed checkpoints, against scipy and statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as oracle

from fsearch.search.examples import FEWEST, bootstrap_interval, example_effect, mcnemar

RNG = np.random.Generator(np.random.PCG64(17))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (40, 21), (300, 251)])
def test_mcnemar_is_that_of_statsmodels(gained: int, lost: int) -> None:
    """Two-sided and exact; questions on which both agree do not matter."""
    variant = np.array([1.0] * gained + [0.0] * lost + [1.0] * 7 + [0.0] * 4)
    baseline = np.array([0.0] * gained + [1.0] * lost + [1.0] * 7 + [0.0] * 4)
    found = mcnemar(variant, baseline)
    assert (found.gained, found.lost) == (gained, lost)
    expected = oracle([[7, lost], [gained, 4]], exact=True).pvalue
    assert found.p == pytest.approx(expected, abs=1e-12)


def test_the_bootstrap_is_that_of_scipy_where_every_example_stands_for_itself() -> None:
    """Percentile interval of 10,000 draws, to the noise of the draws."""
    values = RNG.normal(0.03, 0.4, 300)
    low, high = bootstrap_interval(values, range(300), stream=1)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=3
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.003)


def test_examples_of_one_document_count_as_one() -> None:
    """Copies of every example say nothing new: the interval stays, where single examples would halve it."""
    values = RNG.normal(0.0, 0.4, 200)
    once = bootstrap_interval(values, range(200), stream=1)
    copied, documents = np.repeat(values, 4), [i // 4 for i in range(800)]
    assert bootstrap_interval(copied, documents, stream=1) == pytest.approx(once)
    low, high = bootstrap_interval(copied, range(800), stream=1)
    assert high - low == pytest.approx((once[1] - once[0]) / 2, rel=0.1)


def test_documents_of_unlike_size_keep_the_mean_of_examples() -> None:
    """The mean is that over examples, not over documents: a large document weighs more."""
    documents = [0] * 300 + list(range(1, 201))
    values = np.array([0.4] * 300 + [0.0] * 200)
    low, high = bootstrap_interval(values, documents, stream=5)
    assert low < values.mean() < high


def test_the_interval_covers_the_truth_in_ninety_five_of_a_hundred() -> None:
    """Documents of one to five questions that share much; 500 draws of a world."""
    covered = 0
    for seed in range(500):
        rng = np.random.Generator(np.random.PCG64(seed))
        sizes = rng.integers(1, 6, 120)
        documents = np.repeat(np.arange(120), sizes)
        values = 0.05 + rng.normal(0, 0.3, 120)[documents] + rng.normal(0, 0.2, len(documents))
        low, high = bootstrap_interval(values, documents.tolist(), stream=seed)
        covered += low <= 0.05 <= high
    assert covered / 500 == pytest.approx(0.95, abs=0.035)


def test_one_stream_gives_one_interval() -> None:
    """A report says the same twice."""
    values = RNG.normal(0.0, 1.0, 150)
    first, again, other = (bootstrap_interval(values, range(150), stream) for stream in (7, 7, 8))
    assert first == again != other


def effect(n: int, tokens: int, documents: list[int]) -> Any:
    rng = np.random.Generator(np.random.PCG64(n))
    variant, baseline = (rng.binomial(tokens, 0.4, (3, n)) / tokens for _ in range(2))
    return example_effect(variant, baseline, documents, stream=2)


def test_the_mean_over_seeds_is_what_is_drawn() -> None:
    """Of several checkpoints the interval is that of their mean difference, question by question."""
    rng = np.random.Generator(np.random.PCG64(4))
    variant, baseline = rng.random((5, 130)), rng.random((5, 130))
    found = example_effect(variant, baseline, range(130), stream=9)
    assert found is not None
    expected = bootstrap_interval((variant - baseline).mean(axis=0), range(130), stream=9)
    assert (found.low, found.high) == expected
    assert (found.examples, found.documents, found.mcnemar) == (130, 130, ())


def test_too_few_documents_give_no_interval() -> None:
    """However many examples they have."""
    assert effect(FEWEST - 1, 3, list(range(FEWEST - 1))) is None
    assert effect(800, 3, [i % (FEWEST - 1) for i in range(800)]) is None
    assert effect(FEWEST, 3, list(range(FEWEST))) is not None


def test_mcnemar_is_for_questions_that_stand_for_themselves() -> None:
    """One token a question and one question a document; one test a seed."""
    found = effect(200, 1, list(range(200)))
    assert len(found.mcnemar) == 3
    assert effect(200, 1, [i // 2 for i in range(200)]).mcnemar == ()
    assert effect(200, 2, list(range(200))).mcnemar == ()
