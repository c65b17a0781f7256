"""infill: fill in masks from symbols that stand further right. The positive control.

    H C A F B B E D | _ _ _ _ | C A H E        each _ must give the symbol at its place in C A H E

The whole sequence is the prompt, and the answer is predicted at the masks themselves, before the
right-hand block has been read. A causal model can only guess, whatever its size; with Future-Seed the
upper layers start from a state that has read the whole sequence. The left block is a distraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from fsearch.tasks.generated import GeneratedTask
from fsearch.tasks.sieve import Candidate, SplitName
from fsearch.tasks.task import NO_TARGET, Arguments, Example, Span

SEPARATOR, MASK, FIRST_SYMBOL = 1, 2, 3
DRAWN_AT_ONCE = 1024


class InfillArguments(Arguments):
    """Fill in masks from symbols that stand further right."""

    judged = ()

    n_symbols: int = Field(8, ge=2, le=26)
    """Kinds of symbols."""

    n_left: int = Field(8, ge=0, le=4096)
    """Random symbols before the masks."""

    n_masks: int = Field(12, ge=1, le=4096)
    """Masks, and random symbols after them that they stand for."""


class Infill(GeneratedTask[InfillArguments]):
    """See the module's docstring. Length n_left + 2 * n_masks + 2; nothing follows the prompt."""

    name = "infill"
    arguments_type = InfillArguments

    @property
    def vocab_size(self) -> int:
        return FIRST_SYMBOL + self.arguments.n_symbols

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        n_symbols, n_left, n_masks = self.arguments.n_symbols, self.arguments.n_left, self.arguments.n_masks
        length = n_left + 2 * n_masks + 2
        masks = slice(n_left + 1, n_left + 1 + n_masks)
        scored = np.zeros(length, np.bool_)
        scored[masks] = True
        while True:
            drawn = rng.integers(n_symbols, size=(DRAWN_AT_ONCE, n_left + n_masks), dtype=np.int32)
            drawn += FIRST_SYMBOL
            tokens = np.full((DRAWN_AT_ONCE, length), SEPARATOR, np.int32)
            tokens[:, :n_left] = drawn[:, :n_left]
            tokens[:, masks] = MASK
            tokens[:, -n_masks:] = drawn[:, n_left:]
            targets = np.full((DRAWN_AT_ONCE, length), NO_TARGET, np.int32)
            targets[:, masks] = drawn[:, n_left:]
            for row in range(DRAWN_AT_ONCE):
                document = " ".join(map(str, drawn[row].tolist()))
                yield Example(tokens[row], length, targets[row], scored, document)

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / self.arguments.n_symbols

    def spans(self, example: Example) -> tuple[list[Span], list[Span]]:
        names = "#|_ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        prompt = " ".join(names[token] for token in example.tokens)
        answer = " ".join(names[token] for token in example.targets[example.scored])
        return [Span(prompt)], [Span(answer, scored=True)]
