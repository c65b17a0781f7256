"""sudoku: complete a 4x4 or 9x9 board that has exactly one solution.

The prompt is the puzzle, one token a cell, and a token that asks; the answer is the whole board, cell by
cell. The cells that were given are trained and not scored: copying them is no Sudoku. A document is a
solution, so that no board of the validation set has been trained with other blanks.

`mask_region` decides how far a blank is from the cells that determine it: with `prefix` the blanks come
first, and their reasons are all to the right of them. A prefix or suffix of two whole rows of one band
never has a unique solution, because the two can be exchanged: that is a shortage of data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from fsearch.tasks.boards import Board, all_boards, has_one_solution, random_board
from fsearch.tasks.generated import Candidate, GeneratedTask, Rejected, SplitName
from fsearch.tasks.task import Arguments, Example, document_hash, question_answer

ASK, BLANK = 1, 2  # the digit d is the token BLANK + d


class SudokuArguments(Arguments):
    """Complete a board that has exactly one solution."""

    shown = ("base", "mask_region")

    base: Literal[2, 3] = 2
    """Side of a block: 2 for 4x4 boards, 3 for 9x9."""

    mask_region: Literal["prefix", "suffix", "random"] = "random"
    """Where the blanks are: the first cells, the last cells, or anywhere."""

    mask_count: int = Field(8, ge=1, le=80)
    """Blank cells."""

    n_train: int = Field(8192, ge=1, le=10_000_000)
    """Training examples."""

    def word(self, name: str) -> str:
        return f"{self.base**2}x{self.base**2}" if name == "base" else super().word(name)

    @model_validator(mode="after")
    def _a_cell_is_given(self) -> SudokuArguments:
        if self.mask_count >= self.base**4:
            raise ValueError(
                f"mask_count is {self.mask_count}, but a board with base {self.base} has {self.base**4} "
                "cells and at least one must be given"
            )
        return self


class Sudoku(GeneratedTask[SudokuArguments]):
    """See the module's docstring. Prompt cells + 1 tokens, answer cells tokens, cells = base ** 4."""

    name = "sudoku"
    arguments_type = SudokuArguments

    @property
    def vocab_size(self) -> int:
        return BLANK + self.arguments.base**2 + 1

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        base = self.arguments.base
        for board in self._boards(rng, split):
            blank = self._mask(rng)
            solution = np.array(board, np.int32)
            if not has_one_solution(np.where(blank, 0, solution).tolist(), base):
                yield Rejected("more than one solution")
                continue
            prompt = np.append(np.where(blank, BLANK, solution + BLANK), ASK).astype(np.int32)
            yield question_answer(prompt, solution + BLANK, document=_text(board), scored=blank)

    def _boards(self, rng: np.random.Generator, split: SplitName) -> Iterator[Board]:
        """Solved boards for ever. The few 4x4 boards are shared out between the splits beforehand."""
        if self.arguments.base == 2:
            pool = [board for board in all_boards(2) if _is_validation(board) == (split == "validation")]
            while True:
                yield from (pool[place] for place in rng.permutation(len(pool)))
        while True:
            yield random_board(self.arguments.base, rng)

    def _mask(self, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """[cells]: true where the cell is blank."""
        cells, count = self.arguments.base**4, self.arguments.mask_count
        place = rng.permutation(cells) if self.arguments.mask_region == "random" else np.arange(cells)
        return place >= cells - count if self.arguments.mask_region == "suffix" else place < count

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / self.arguments.base**2

    def render(self, example: Example) -> tuple[str, str]:
        side = self.arguments.base**2

        def rows(tokens: Sequence[int]) -> str:
            text = "".join("." if token == BLANK else str(token - BLANK) for token in tokens)
            return "\n".join(text[start : start + side] for start in range(0, side * side, side))

        prompt = example.tokens[: example.prompt_len - 1].tolist()
        return rows(prompt), rows(example.tokens[example.prompt_len :].tolist())


def _text(board: Board) -> str:
    return "".join(map(str, board))


def _is_validation(board: Board) -> bool:
    """A quarter of the boards. Bit 0 of the hash chooses the validation half, so other bits are used."""
    return document_hash(_text(board)) >> 1 & 3 == 0
