"""kv_sort: the values of key-value pairs in the order of their keys.

    71=480215;08=993107;33=041866=993107,041866,480215

Keys are distinct numbers of two digits. There is no question, and so no order of question and context. The
commas of the answer are trained and not scored.

Only the first digit of a value needs the keys: a model that never compares any, and goes on with a value of
the prompt that began in the same way, scores about 0.84 with the default arguments, though it has only
1 / n_pairs of the values wholly right: read `values`, the share of those, beside the score.

From the drafts' task kvsort (kv_n is n_pairs, kv_vlen n_digits).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from fsearch.tasks.byte_level import DIGITS, ByteLevelTask, ValuedArguments, drawn_values, written_pairs
from fsearch.tasks.sieve import Candidate, SplitName
from fsearch.tasks.task import Answered

N_KEYS = 100


class KvSortArguments(ValuedArguments):
    """The values of key-value pairs in the order of their keys."""

    n_pairs: int = Field(7, ge=2, le=N_KEYS)
    """Key-value pairs in a prompt (the drafts' kv_n)."""


class KvSort(ByteLevelTask[KvSortArguments]):
    """See the module's docstring.

    Prompt n_pairs * (n_digits + 4) tokens, answer n_pairs * (n_digits + 1) - 1 tokens.
    """

    name = "kv_sort"
    arguments_type = KvSortArguments
    symbols = DIGITS

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        n_pairs = self.arguments.n_pairs
        while True:
            keys = [f"{key:02}" for key in rng.choice(N_KEYS, n_pairs, replace=False).tolist()]
            pairs = list(zip(keys, drawn_values(rng, n_pairs, self.arguments.n_digits), strict=True))
            yield self.example(written_pairs(pairs) + "=", ",".join(value for _, value in sorted(pairs)))

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """`values`: the share of values with every digit right."""
        right = np.stack([a.predicted == a.example.targets[a.example.scored] for a in answered])
        values = right.reshape(-1, self.arguments.n_digits).all(axis=1)
        return {**super().metrics(answered), "values": float(values.mean())}
