"""name_index: the name at an index of a list.

    q_after   kd,ow,ab,zx?02=ab
    q_first   02?kd,ow,ab,zx=ab

Names are distinct and are counted from 0. The second letter can be had without counting, from a name that
begins as the answer does: a model that gives the most frequent first letter and then goes on with such a
name scores about 0.24 with the default arguments, and has 1 / n_names of the answers wholly right.

From the drafts' task nameindex (ni_n is n_names, ni_q_first the order).
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase

import numpy as np
from pydantic import Field

from fsearch.tasks.byte_level import NAMES, ByteLevelTask, QuestionedArguments, asked
from fsearch.tasks.sieve import Candidate, SplitName


class NameIndexArguments(QuestionedArguments):
    """The name at an index of a list."""

    n_names: int = Field(64, ge=2, le=len(NAMES))
    """Names in a prompt (the drafts' ni_n)."""


class NameIndex(ByteLevelTask[NameIndexArguments]):
    """See the module's docstring. Prompt 3 * n_names + 1 tokens and those of an index, answer 2 tokens."""

    name = "name_index"
    arguments_type = NameIndexArguments
    symbols = ascii_lowercase

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        n_names = self.arguments.n_names
        width = len(str(n_names - 1))  # of every index, so that its length tells nothing
        while True:
            names = [NAMES[place] for place in rng.choice(len(NAMES), n_names, replace=False).tolist()]
            index = int(rng.integers(n_names))
            prompt = asked(self.arguments.order, ",".join(names), f"{index:0{width}}")
            yield self.example(prompt, names[index])
