"""Which protein chains are relatives: the share of short words (k-mers) that two sequences have in common.

    share(a, b) = |words of a and b| / min(|words of a|, |words of b|),  words = distinct runs of K residues

Taking the shorter chain's words finds a chain that is a part of a longer one. Unrelated chains share next to
nothing: two of 500 residues have 0.1 words in common by chance, of 496. At an identity p of aligned residues
the share is about p ** K, so that a limit of 0.1 stands for 63 % identity. Remote relatives are not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K = 5
"""Residues of a word."""

Words = NDArray[np.int64]


def words(sequence: str) -> Words:
    """The distinct words of a sequence of ASCII characters, sorted: [at most len(sequence) - K + 1]."""
    letters = np.frombuffer(sequence.encode("ascii"), np.uint8).astype(np.int64)
    if len(letters) < K:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(letters, K)
    return np.unique(windows @ (128 ** np.arange(K, dtype=np.int64)))


class WordIndex:
    """Chains that others are compared with, all at once."""

    def __init__(self, sequences: Sequence[str]) -> None:
        chains = [words(sequence) for sequence in sequences]
        self._sizes = np.array([len(chain) for chain in chains], np.int64)
        found = np.concatenate([np.empty(0, np.int64), *chains])
        order = np.argsort(found, kind="stable")
        self._words = found[order]
        self._chains = np.repeat(np.arange(len(chains)), self._sizes)[order]

    def shares(self, sequence: str) -> NDArray[np.float64]:
        """The share of words that `sequence` has in common with every chain of the index: [chains], 0..1."""
        own = words(sequence)
        first = np.searchsorted(self._words, own, "left")
        counts = np.searchsorted(self._words, own, "right") - first
        hits = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        common = np.bincount(self._chains[hits], minlength=len(self._sizes))
        return common / np.maximum(np.minimum(self._sizes, len(own)), 1)

    def largest_share(self, sequence: str) -> float:
        """The share with the chain that `sequence` has most in common with; 0 for an empty index."""
        return float(self.shares(sequence).max(initial=0.0))
