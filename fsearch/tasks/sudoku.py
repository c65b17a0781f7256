"""sudoku: complete a 4x4 or 9x9 board that has exactly one solution.

    ...33...42311..2=2413312442311342

The prompt is the puzzle, row by row, `.` for a blank, and `=`; the answer is the whole board, cell by cell,
one token each. The cells that were given are trained and not scored: copying them is no Sudoku. A document
is a solution, so that no board of the validation set has been trained with other blanks.

`mask_region` decides how far a blank is from the cells that determine it: with `prefix` the blanks come
first, and their reasons are all to the right of them. A prefix or suffix of two whole rows (8 cells of 16,
18 of 81; the drafts had 8 and 40) never has one solution, because the two rows can be exchanged: that is a
shortage of data. A shorter one makes one puzzle of a board, so that 4x4 boards make 288 puzzles for all
splits together with up to 6 blanks, and 96 with 7.

The digit that fits at a blank is often the only one that its row, column and block leave open. A model that
gives one of those at random, without any further thought, scores about 0.8 with the default arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from fsearch.tasks.boards import Board, all_boards, has_one_solution, random_board, violated_units
from fsearch.tasks.byte_level import DIGITS, TOKENS, ByteLevelTask
from fsearch.tasks.sieve import Candidate, Rejected, SplitName
from fsearch.tasks.task import (
    Answered,
    Arguments,
    BoolArray,
    CodeExec,
    Completed,
    Example,
    Judgement,
    Progress,
    Span,
    document_hash,
)

BLANK, ASK = ".", "="


class SudokuArguments(Arguments):
    """Complete a board that has exactly one solution."""

    shown = ("base", "mask_region")
    figures = ("cells",)
    judged = ("exact_match", "solved", "rules_kept")

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


class Sudoku(ByteLevelTask[SudokuArguments]):
    """See the module's docstring. Prompt cells + 1 tokens, answer cells tokens, cells = base ** 4."""

    name = "sudoku"
    arguments_type = SudokuArguments

    @property
    def symbols(self) -> str:
        return DIGITS[1 : self.arguments.base**2 + 1]

    def candidates(self, rng: np.random.Generator, split: SplitName) -> Iterator[Candidate]:
        base = self.arguments.base
        for board in self._boards(rng, split):
            blank = self._mask(rng)
            if not has_one_solution(np.where(blank, 0, board).tolist(), base):
                yield Rejected(self._why_not_one_solution)
                continue
            solution = _text(board)
            puzzle = "".join(np.where(blank, BLANK, list(solution)))
            yield self.example(puzzle + ASK, solution, document=solution, scored=blank)

    def _boards(self, rng: np.random.Generator, split: SplitName) -> Iterator[Board]:
        """Solved boards for ever. The few 4x4 boards are shared out between the splits beforehand."""
        if self.arguments.base == 2:
            pool = [board for board in all_boards(2) if _is_validation(board) == (split == "validation")]
            while True:
                yield from (pool[place] for place in rng.permutation(len(pool)))
        while True:
            yield random_board(self.arguments.base, rng)

    @property
    def _why_not_one_solution(self) -> str:
        """Where no puzzle can have one solution, this says so."""
        two_rows = 2 * self.arguments.base**2
        if self.arguments.mask_region == "random" or self.arguments.mask_count < two_rows:
            return "more than one solution"
        return "more than one solution: two blank rows of a band can be exchanged"

    def _mask(self, rng: np.random.Generator) -> BoolArray:
        """[cells]: true where the cell is blank."""
        cells, count = self.arguments.base**4, self.arguments.mask_count
        place = rng.permutation(cells) if self.arguments.mask_region == "random" else np.arange(cells)
        return place >= cells - count if self.arguments.mask_region == "suffix" else place < count

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """`cells`: share of blank cells that are right; `boards`: share of boards with all of them right.

        A completed board that obeys the rules is the solution, since there is one, so `boards` is the share
        of valid boards too.
        """
        common = super().metrics(answered)
        right = [a.predicted == a.example.targets[a.example.scored] for a in answered]
        return {**common, "cells": float(np.mean(np.concatenate(right))), "boards": common["whole_answer"]}

    def judge(
        self, completed: Sequence[Completed], code_exec: CodeExec, progress: Progress | None = None
    ) -> Judgement:
        """Adds what the generated boards are as boards, each mean over an example's samples:

        `solved`: it has every cell, keeps the given ones and obeys every rule. `rules_kept`: share of the
        rows, columns and blocks with every digit once. Figures, means over all boards: `violations`, rows,
        columns and blocks without that; `givens_changed`, given cells with another digit or none.
        """
        base = self.arguments.base
        units = 3 * base**2
        values: dict[str, list[float]] = {"solved": [], "rules_kept": []}
        violations, changes = [], []
        for one in completed:
            puzzle = TOKENS.decode(one.example.tokens[: one.example.prompt_len]).removesuffix(ASK)
            boards = [TOKENS.decode(completion) for completion in one.completions]
            violated = [len(violated_units(_digits(board, base), base)) for board in boards]
            changed = [_givens_changed(board, puzzle) for board in boards]
            whole = [len(board) == len(puzzle) for board in boards]
            values["solved"].append(fmean(map(_solved, whole, violated, changed)))
            values["rules_kept"].append(1.0 - fmean(violated) / units)
            violations.append(fmean(violated))
            changes.append(fmean(changed))
        found = super().judge(completed, code_exec, progress)
        return Judgement(
            by_example={**found.by_example, **values},
            figures={"violations": fmean(violations), "givens_changed": fmean(changes)},
        )

    def spans(self, example: Example) -> tuple[list[Span], list[Span]]:
        """The boards row by row."""
        side = self.arguments.base**2
        (prompt,), answer = super().spans(example)
        puzzle = prompt.text.removesuffix(ASK)
        rows = [puzzle[start : start + side] for start in range(0, len(puzzle), side)]
        cells = [Span(digit, span.scored) for span in answer for digit in span.text]
        for end in range(len(cells) - side, 0, -side):
            cells.insert(end, Span("\n"))
        return [Span("\n".join(rows))], cells


def _solved(whole: bool, violated: int, changed: int) -> bool:
    return whole and not violated and not changed


def _digits(board: str, base: int) -> Board:
    """A generated board's cells; 0 for one that is missing or no digit of it."""
    allowed = DIGITS[1 : base**2 + 1]
    return tuple(int(cell) if cell in allowed else 0 for cell in board[: base**4].ljust(base**4))


def _givens_changed(board: str, puzzle: str) -> int:
    """Given cells that have another digit in the board, or are not in it."""
    cells = board.ljust(len(puzzle))
    return sum(given not in (BLANK, cell) for given, cell in zip(puzzle, cells, strict=False))


def _text(board: Board) -> str:
    return "".join(map(str, board))


def _is_validation(board: Board) -> bool:
    """A quarter of the boards. Bit 0 of the hash chooses the validation half, so other bits are used."""
    return document_hash(_text(board)) >> 1 & 3 == 0
