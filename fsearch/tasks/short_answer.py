"""Exact match and F1 of short answers in words, as SQuAD and HotpotQA are scored.

Rajpurkar et al. 2016 (evaluate-v1.1.py) and, for F1, Yang et al. 2018 (hotpot_evaluate_v1.py): a yes or a no
is right or wrong, whatever words stand beside it. Where one of two texts has no words left they agree only if
neither has any (evaluate-v2.0.py). Of several answers the one that fits best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WHOLE = frozenset({"yes", "no", "noanswer"})


def normalised(text: str) -> str:
    """In lower case, without ASCII punctuation, without articles, with single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(given: str, answers: Sequence[str]) -> float:
    """1 if it is one of the answers, normalised; else 0."""
    return float(normalised(given) in map(normalised, answers))


def f1(given: str, answers: Sequence[str]) -> float:
    """The harmonic mean of the shares of words that both have, with the answer that gives most."""
    return max(_f1(normalised(given), normalised(answer)) for answer in answers)


def _f1(given: str, answer: str) -> float:
    if given == answer:
        return 1.0
    if given in _WHOLE or answer in _WHOLE:
        return 0.0
    words, wanted = given.split(), answer.split()
    both = sum((Counter(words) & Counter(wanted)).values())
    return 2 * both / (len(words) + len(wanted))
