"""middle_match: the name between two given neighbours in a list.

    q_after   kd,ow,ab,zx?ow_zx=ab
    q_first   ow_zx?kd,ow,ab,zx=ab

A name may occur more than once; the two neighbours with one name between them occur once, so that the
answer is the only one. With 96 names the left neighbour alone is enough in 87 % of the prompts, which have it
just once. The second letter can be had from a name that begins as the answer does: a model that gives the
most frequent first letter and then goes on with such a name scores about 0.20 with the default arguments,
and has 0.02 of the answers wholly right.

From the drafts' task middlematch (mm_n is n_names, mm_q_first the order).
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase

import numpy as np
from pydantic import Field

from fsearch.tasks.byte_level import NAMES, ByteLevelTask, QuestionedArguments, asked
from fsearch.tasks.sieve import Candidate, Rejected, SplitName


class MiddleMatchArguments(QuestionedArguments):
    """The name between two given neighbours in a list."""

    n_names: int = Field(96, ge=3, le=4096)
    """Names in a prompt (the drafts' mm_n)."""


class MiddleMatch(ByteLevelTask[MiddleMatchArguments]):
    """See the module's docstring. Prompt 3 * n_names + 6 tokens, answer 2 tokens."""

    name = "middle_match"
    arguments_type = MiddleMatchArguments
    symbols = ascii_lowercase

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        n_names = self.arguments.n_names
        while True:
            names = [NAMES[place] for place in rng.integers(len(NAMES), size=n_names).tolist()]
            place = int(rng.integers(1, n_names - 1))
            left, middle, right = names[place - 1 : place + 2]
            if list(zip(names, names[2:], strict=False)).count((left, right)) > 1:
                yield Rejected("the same neighbours around two names")
                continue
            yield self.example(asked(self.arguments.order, ",".join(names), f"{left}_{right}"), middle)
