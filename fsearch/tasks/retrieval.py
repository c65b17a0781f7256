"""retrieval: the value of one key among key-value pairs, digit by digit.

    q_after   q3=480215;0b=993107;7z=041866?0b=993107
    q_first   0b?q3=480215;0b=993107;7z=041866=993107

Keys are distinct. Only the first digit of the answer needs the key: those after it can be had by going on
with the value of the prompt that began in the same way. A model that does this and never looks at the key
scores about 0.82 with the default arguments, though it has only 1 / n_pairs of the answers wholly right:
read `whole_answer` beside the score.

From the drafts' task of this name (retr_k is n_pairs, retr_vlen n_digits, retr_query_last query_last,
retr_q_first the order). Their keys were the numbers 0..k-1 in base 36, so that a key told the place of its
pair; here they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from string import ascii_lowercase

import numpy as np
from pydantic import Field

from fsearch.tasks.byte_level import (
    DIGITS,
    ByteLevelTask,
    QuestionedArguments,
    ValuedArguments,
    asked,
    drawn_values,
    written_pairs,
)
from fsearch.tasks.sieve import Candidate, SplitName

KEYS = tuple(map("".join, product(DIGITS + ascii_lowercase, repeat=2)))


class RetrievalArguments(ValuedArguments, QuestionedArguments):
    """The value of one key among key-value pairs, digit by digit."""

    n_pairs: int = Field(10, ge=2, le=len(KEYS))
    """Key-value pairs in a prompt (the drafts' retr_k)."""

    query_last: bool = False
    """Move the pair that is asked for to the end of the list."""


class Retrieval(ByteLevelTask[RetrievalArguments]):
    """See the module's docstring. Prompt n_pairs * (n_digits + 4) + 3 tokens, answer n_digits tokens."""

    name = "retrieval"
    arguments_type = RetrievalArguments
    symbols = DIGITS

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        n_pairs = self.arguments.n_pairs
        while True:
            keys = [KEYS[place] for place in rng.choice(len(KEYS), n_pairs, replace=False).tolist()]
            pairs = list(zip(keys, drawn_values(rng, n_pairs, self.arguments.n_digits), strict=True))
            place = int(rng.integers(n_pairs))
            key, value = pairs[place]
            if self.arguments.query_last:
                pairs.append(pairs.pop(place))
            yield self.example(asked(self.arguments.order, written_pairs(pairs), key), value)
