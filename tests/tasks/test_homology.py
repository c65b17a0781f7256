"""Shares of words between chains, against sets of strings."""

from __future__ import annotations

import numpy as np
import pytest

from fsearch.tasks.homology import K, WordIndex, words

AMINO = "ACDEFGHIKLMNPQRSTVWY"


def strings(sequence: str) -> set[str]:
    return {sequence[start : start + K] for start in range(len(sequence) - K + 1)}


def share(one: str, other: str) -> float:
    a, b = strings(one), strings(other)
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def random_chain(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list(AMINO), length))


def test_shares_equal_those_of_sets_of_strings() -> None:
    """Random chains, mutated ones, parts of others, repeats, and ones too short for a word."""
    rng = np.random.default_rng(0)
    chains = [random_chain(rng, int(n)) for n in rng.integers(5, 120, 20)]
    chains += [chains[3][10:60], chains[4] + chains[5], "ACDEF", "ACDE", "", "A" * 50, "AC" * 30]
    chains += ["".join(rng.choice(list(AMINO)) if rng.random() < 0.1 else a for a in c) for c in chains[:6]]
    index = WordIndex(chains)
    for chain in chains:
        expected = [share(chain, other) for other in chains]
        assert index.shares(chain).tolist() == pytest.approx(expected, abs=1e-12)
        assert index.largest_share(chain) == pytest.approx(max(expected), abs=1e-12)
    assert WordIndex([]).largest_share(chains[0]) == 0


def test_words_by_hand() -> None:
    """A repeat counts once, and no word runs over an end."""
    assert len(words("ACDEFACDEF")) == 5
    assert len(words("AAAAAAAA")) == 1
    assert len(words("ACDE")) == 0
    index = WordIndex(["ACDEFG", "MMMMMACDEFGMMMMM"])
    # ACDEFG has the words ACDEF and CDEFG; ACDEFW shares the first one.
    assert index.shares("ACDEFW").tolist() == [0.5, 0.5]
    assert index.shares("MMMMMACDEFGMMMMM").tolist() == [1, 1]


def test_unrelated_chains_share_nothing_to_speak_of() -> None:
    """400 random chains of 500 residues: the largest share is far below any limit in use."""
    rng = np.random.default_rng(1)
    chains = [random_chain(rng, 500) for _ in range(400)]
    index = WordIndex(chains)
    assert max(index.largest_share(random_chain(rng, 500)) for _ in range(50)) < 0.02
