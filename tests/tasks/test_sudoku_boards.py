"""Sudoku boards, against an independent brute force."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, permutations

import numpy as np
import pytest

from fsearch.tasks import Sources, create
from fsearch.tasks.boards import all_boards, has_one_solution, random_board, solutions


def fits(board: list[int], cell: int, digit: int, base: int) -> bool:
    side = base * base
    row, column = divmod(cell, side)
    for other, value in enumerate(board):
        if value == digit and other != cell:
            other_row, other_column = divmod(other, side)
            same_block = (other_row // base, other_column // base) == (row // base, column // base)
            if other_row == row or other_column == column or same_block:
                return False
    return True


def brute_force(board: list[int], base: int) -> Iterator[tuple[int, ...]]:
    """Every solution, by trying every digit in every blank from left to right."""
    if 0 not in board:
        yield tuple(board)
        return
    cell = board.index(0)
    for digit in range(1, base * base + 1):
        if fits(board, cell, digit, base):
            yield from brute_force([*board[:cell], digit, *board[cell + 1 :]], base)


def is_solved(board: tuple[int, ...], base: int) -> bool:
    return 0 not in board and all(fits(list(board), cell, digit, base) for cell, digit in enumerate(board))


def boards_by_rows() -> set[tuple[int, ...]]:
    """All solved 4x4 boards, put together from permutations as rows."""
    rows = list(permutations(range(1, 5)))
    bands = [
        (upper, lower)
        for upper in rows
        for lower in rows
        if len({*upper[:2], *lower[:2]}) == 4 and len({*upper[2:], *lower[2:]}) == 4
    ]
    stacked = ((*a, *b) for a in bands for b in bands)
    return {
        sum(four, ()) for four in stacked if all(len(set(column)) == 4 for column in zip(*four, strict=True))
    }


def test_there_are_288_boards_of_side_4() -> None:
    """The enumeration equals one that builds boards from permutations of rows."""
    assert set(all_boards(2)) == boards_by_rows()
    assert len(all_boards(2)) == 288


def test_every_board_of_side_4_is_used() -> None:
    """The 288 boards are shared out between training and validation, and all of them occur."""
    built = create("sudoku", {"n_train": 4096, "n_val": 1024}).build(0, Sources())
    train, validation = ({example.document for example in split} for split in (built.train, built.validation))
    assert train.isdisjoint(validation)
    assert {tuple(map(int, document)) for document in train | validation} == boards_by_rows()
    assert 50 <= len(validation) <= 90


@pytest.mark.parametrize("base", [2, 3])
def test_random_boards_are_solved_and_differ(base: int) -> None:
    """Generated boards obey the rules; on 9x9 no two of a sample are equal, and all digits lead the board."""
    rng = np.random.default_rng(5)
    boards = [random_board(base, rng) for _ in range(100)]
    assert all(is_solved(board, base) for board in boards)
    assert {board[0] for board in boards} == set(range(1, base * base + 1))
    if base == 3:
        assert len(set(boards)) == 100


@pytest.mark.parametrize(
    ("base", "mask_region", "mask_count", "number"),
    [(2, "random", 8, 200), (2, "prefix", 6, 30), (3, "random", 40, 12), (3, "prefix", 16, 12)],
)
def test_puzzles_have_exactly_one_solution(base: int, mask_region: str, mask_count: int, number: int) -> None:
    """A brute force finds the answer of every example and nothing else."""
    arguments = {"base": base, "mask_region": mask_region, "mask_count": mask_count}
    task = create("sudoku", {**arguments, "n_train": number, "n_val": 12})
    built = task.build(0, Sources())
    for example in [*built.train, *built.validation]:
        puzzle, answer = (text.replace("\n", "") for text in task.render(example))
        found = list(islice(brute_force([0 if c == "." else int(c) for c in puzzle], base), 2))
        assert found == [tuple(map(int, answer))]


def test_solution_counts_equal_brute_force() -> None:
    """The solver finds the same solutions as the brute force, none, one or many."""
    rng = np.random.default_rng(0)
    seen = set()
    for blanks in [4, 6, 8, 10, 12, 14] * 10:
        puzzle = np.array(random_board(2, rng))
        puzzle[rng.permutation(16)[:blanks]] = 0
        if blanks == 4:  # spoil it
            puzzle[np.flatnonzero(puzzle)[0]] = puzzle[np.flatnonzero(puzzle)[1]]
        expected = set(brute_force(puzzle.tolist(), 2)) if blanks > 4 else set()
        found = list(solutions(puzzle.tolist(), 2))
        assert len(found) == len(expected)
        assert set(found) == expected
        assert has_one_solution(puzzle.tolist(), 2) == (len(expected) == 1)
        seen.add(min(len(expected), 2))
    assert seen == {0, 1, 2}
