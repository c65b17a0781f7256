"""Tasks that are drawn from a random number generator: no files, no network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from fsearch.tasks import sieve
from fsearch.tasks.sieve import Candidate, SplitName
from fsearch.tasks.sources import Sources
from fsearch.tasks.task import A, Built, Progress, Task, generator, label

PATIENCE = 1000
"""Candidates in a row that may fail before the search for more is given up."""


class GeneratedTask(Task[A]):
    """A task whose examples are drawn. Examples are distinct within and between the splits."""

    @abstractmethod
    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        """Draws for ever."""

    def build(self, master_seed: int, sources: Sources, progress: Progress | None = None) -> Built:
        def candidates(split: SplitName) -> Iterator[Candidate]:
            return self.candidates(generator(master_seed, self.name, self.arguments, split), split)

        return sieve.build(
            label(self.name, self.arguments),
            {"train": self.arguments.n_train, "validation": self.arguments.n_val},
            candidates,
            patience=PATIENCE,
            progress=progress,
        )
