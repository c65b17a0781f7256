"""Tasks that are drawn from a random number generator: no files, no network.

What they share is the sieve: candidates come one by one, repeated ones and those of the other split's
documents are left out, and every candidate is counted, so that a shortage explains itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from fsearch.tasks.task import A, Built, DataShort, Example, Progress, Task, generator, label

SplitName = Literal["train", "validation"]

PATIENCE = 1000
"""Candidates in a row that may fail before the search for more is given up."""

PROGRESS_EVERY = 256  # examples


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that a filter removed."""

    reason: str


Candidate = Example | Rejected


class GeneratedTask(Task[A]):
    """A task whose examples are drawn. Examples are distinct within and between the splits."""

    @abstractmethod
    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        """Draws for ever."""

    def build(self, master_seed: int, progress: Progress | None = None) -> Built:
        n_train, n_val = self.arguments.n_train, self.arguments.n_val

        def report(done: int) -> None:
            if progress is not None:
                progress(done, n_train + n_val)

        def collect(
            split: SplitName, wanted: int, taken: frozenset[str], already: int
        ) -> tuple[list[Example], dict[str, int]]:
            rng = generator(master_seed, self.name, self.arguments, split)
            counts: dict[str, int] = {"candidates": 0}
            kept = sift(self.candidates(rng, split), taken, counts)
            examples = []
            for example in islice(kept, wanted):
                examples.append(example)
                if len(examples) % PROGRESS_EVERY == 0:
                    report(already + len(examples))
            return examples, {**counts, "built": len(examples), "asked for": wanted}

        # Validation first: it gets its documents, training does without them.
        validation, of_validation = collect("validation", n_val, frozenset(), 0)
        documents = frozenset(example.document for example in validation)
        train, of_train = collect("train", n_train, documents, n_val)
        counts = {"train": of_train, "validation": of_validation}
        short = [
            f"{len(built)} of {wanted} {split} examples ({name})"
            for split, built, wanted, name in (
                ("training", train, n_train, "n_train"),
                ("validation", validation, n_val, "n_val"),
            )
            if len(built) < wanted
        ]
        if short:
            raise DataShort(
                f"{label(self.name, self.arguments)}: only {' and '.join(short)} could be built. Ask for "
                "no more than were built, or change the arguments so that fewer candidates are left out.",
                counts,
            )
        report(n_train + n_val)
        return Built(train, validation, counts)


def sift(candidates: Iterable[Candidate], taken: frozenset[str], counts: dict[str, int]) -> Iterator[Example]:
    """The candidates that are new and whose document is not `taken`, until PATIENCE in a row fail.

    `counts` is updated on the way: "candidates" and one entry for each reason to leave one out.
    """
    seen: set[bytes] = set()
    failed_in_a_row = 0
    for candidate in candidates:
        counts["candidates"] += 1
        if isinstance(candidate, Rejected):
            reason = candidate.reason
        elif candidate.document in taken:
            reason = "document of the other split"
        elif (content := candidate.tokens.tobytes() + candidate.targets.tobytes()) in seen:
            reason = "repeats another example"
        else:
            seen.add(content)
            failed_in_a_row = 0
            yield candidate
            continue
        counts[reason] = counts.get(reason, 0) + 1
        failed_in_a_row += 1
        if failed_in_a_row == PATIENCE:
            return
