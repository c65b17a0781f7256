"""Sudoku boards: solving, counting solutions, drawing solved boards. Knows nothing of examples.

A board is a tuple of side * side digits 1..side, row by row, with side = base * base; 0 is a blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

import numpy as np

Board = tuple[int, ...]


@cache
def _units(base: int) -> tuple[tuple[int, int, int], ...]:
    """For every cell its row, column and block, numbered 0..3*side-1 in one row of counters."""
    side = base * base
    return tuple(
        (row, side + column, 2 * side + row // base * base + column // base)
        for row in range(side)
        for column in range(side)
    )


def solutions(
    puzzle: Sequence[int], base: int, orders: Sequence[Sequence[int]] | None = None
) -> Iterator[Board]:
    """All solutions of `puzzle`, by backtracking on the cell with the fewest digits left.

    `orders[cell]` is the order in which the digits 1..side are tried there (default: ascending).
    A puzzle whose given cells contradict each other has none.
    """
    side = base * base
    every = (1 << side) - 1  # bit digit-1 stands for the digit
    units = _units(base)
    used = [0] * (3 * side)
    for cell, digit in enumerate(puzzle):
        if digit:
            bit = 1 << (digit - 1)
            for unit in units[cell]:
                if used[unit] & bit:
                    return
                used[unit] |= bit
    ascending = range(1, side + 1)
    board = list(puzzle)

    def search(blanks: list[int]) -> Iterator[Board]:
        if not blanks:
            yield tuple(board)
            return
        best, fewest, free = 0, side + 1, 0
        for place, cell in enumerate(blanks):
            row, column, block = units[cell]
            possible = every & ~(used[row] | used[column] | used[block])
            count = possible.bit_count()
            if count < fewest:
                best, fewest, free = place, count, possible
                if count <= 1:
                    break
        cell = blanks[best]
        row, column, block = units[cell]
        rest = blanks[:best] + blanks[best + 1 :]
        for digit in ascending if orders is None else orders[cell]:
            bit = 1 << (digit - 1)
            if free & bit:
                board[cell] = digit
                used[row] |= bit
                used[column] |= bit
                used[block] |= bit
                yield from search(rest)
                used[row] ^= bit
                used[column] ^= bit
                used[block] ^= bit

    yield from search([cell for cell, digit in enumerate(puzzle) if not digit])


def violated_units(board: Sequence[int], base: int) -> list[int]:
    """The rows, columns and blocks, as numbered 0..3*side-1, in which some digit 1..side does not stand."""
    side = base * base
    found: list[set[int]] = [set() for _ in range(3 * side)]
    for digit, units in zip(board, _units(base), strict=True):
        for unit in units:
            found[unit].add(digit)
    return [unit for unit, digits in enumerate(found) if len(digits - {0}) < side]


def has_one_solution(puzzle: Sequence[int], base: int) -> bool:
    return len(list(islice(solutions(puzzle, base), 2))) == 1


@cache
def all_boards(base: int) -> tuple[Board, ...]:
    """Every solved board, in lexical order: 288 for base 2. Hopeless for base 3 (6.7e21)."""
    return tuple(sorted(solutions([0] * base**4, base)))


def random_board(base: int, rng: np.random.Generator) -> Board:
    """A solved board, drawn afresh: backtracking from an empty one, digits tried in random order.

    Every board can come out. They are not exactly equally likely.
    """
    side = base * base
    orders = rng.permuted(np.tile(np.arange(1, side + 1), (side * side, 1)), axis=1)
    return next(solutions([0] * side * side, base, orders.tolist()))
