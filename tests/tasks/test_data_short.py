"""Exactly as many distinct examples as asked for, or a shortage that explains itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsearch.tasks import DataShort, Sources, create
from fsearch.tasks.boards import all_boards, has_one_solution
from fsearch.tasks.generated import PATIENCE
from fsearch.tasks.prepared import prepare


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("infill", {"n_train": 3000, "n_val": 300}),
        ("infill", {"n_symbols": 3, "n_left": 0, "n_masks": 6, "n_train": 400, "n_val": 200}),  # of 729
        ("kv_recall", {"n_train": 3000, "n_val": 300}),
        ("kv_recall", {"n_keys": 3, "n_values": 2, "n_queries": 1, "n_train": 90, "n_val": 40}),  # of 144
        ("sudoku", {"n_train": 3000, "n_val": 300}),
        ("sudoku", {"base": 3, "mask_count": 30, "n_train": 200, "n_val": 50}),
        ("retrieval", {"n_train": 3000, "n_val": 300}),
        ("name_index", {"n_names": 2, "n_train": 3000, "n_val": 300}),
        ("middle_match", {"n_names": 3, "n_train": 3000, "n_val": 300}),
        ("kv_sort", {"n_pairs": 2, "n_digits": 1, "n_train": 3000, "n_val": 300}),
    ],
)
def test_splits_are_exact_distinct_and_disjoint(name: str, arguments: dict[str, Any]) -> None:
    """n_train and n_val examples, no example twice, no document in both splits, however small the space."""
    built = create(name, arguments).build(3, Sources())
    train, validation = (
        [example.tokens.tobytes() for example in split] for split in (built.train, built.validation)
    )
    assert (len(train), len(validation)) == (arguments["n_train"], arguments["n_val"])
    assert len(set(train)) == len(train)
    assert len(set(validation)) == len(validation)
    assert {e.document for e in built.train}.isdisjoint({e.document for e in built.validation})


def test_every_candidate_is_accounted_for() -> None:
    """candidates = built + what each filter removed, also when all goes well."""
    built = create("sudoku", {"n_train": 500, "n_val": 100}).build(0, Sources())
    for column in built.counts.values():
        counts = dict(column)
        assert counts.pop("candidates") == sum(counts.values()) - counts["asked for"]
        assert counts["more than one solution"] > 0


def test_exchangeable_rows_are_a_shortage() -> None:
    """Two blank rows of a band never have one solution: nothing is built, and the counts say why.

    8 of 16 and 40 of 81 are the drafts' counts.
    """
    reason = "more than one solution: two blank rows of a band can be exchanged"
    drafts = {"base": 3, "mask_count": 40}
    for arguments in (
        {},
        drafts,
        {"base": 3, "mask_count": 18},
        {"mask_region": "suffix"},
        {**drafts, "mask_region": "suffix"},
    ):
        task = create("sudoku", {"mask_region": "prefix", "n_train": 20, "n_val": 10, **arguments})
        with pytest.raises(DataShort) as caught:
            task.build(0, Sources())
        assert reason in str(caught.value)
        expected = {"candidates": PATIENCE, reason: PATIENCE, "built": 0}
        assert caught.value.counts["train"] == {**expected, "asked for": 20}
        assert caught.value.counts["validation"] == {**expected, "asked for": 10}


@pytest.mark.parametrize("mask_region", ["prefix", "suffix", "random"])
@pytest.mark.parametrize(
    ("base", "mask_count", "n_train", "n_val"), [(2, 6, 200, 60), (2, 7, 60, 20), (3, 17, 300, 60)]
)
def test_every_region_has_puzzles(
    mask_region: str, base: int, mask_count: int, n_train: int, n_val: int
) -> None:
    """One blank less than two rows, and as many examples as the page of the tasks says there are."""
    built = create(
        "sudoku",
        {
            "base": base,
            "mask_region": mask_region,
            "mask_count": mask_count,
            "n_train": n_train,
            "n_val": n_val,
        },
    ).build(0, Sources())
    assert (len(built.train), len(built.validation)) == (n_train, n_val)


def test_shortage_counts_what_there_is() -> None:
    """Where there are fewer puzzles than asked for, all of them are found, and the text has the table."""
    task = create("sudoku", {"mask_region": "prefix", "mask_count": 7, "n_train": 300, "n_val": 300})
    with pytest.raises(DataShort) as caught:
        task.build(0, Sources())
    unique = sum(has_one_solution([0] * 7 + list(board[7:]), 2) for board in all_boards(2))
    counts = caught.value.counts
    assert counts["train"]["built"] + counts["validation"]["built"] == unique == 96
    text = str(caught.value)
    assert text.startswith(
        "sudoku 4x4 prefix n_train=300 n_val=300 mask_count=7: only 64 of 300 training examples"
    )
    rows = {line[:24].strip(): line[24:].split() for line in text.splitlines()[2:]}
    assert rows["built"] == ["64", "32"]
    assert rows["asked for"] == ["300", "300"]
    assert set(rows) == {
        "candidates",
        "more than one solution",
        "repeats another example",
        "built",
        "asked for",
    }


def test_validation_documents_are_kept_from_training() -> None:
    """Of two possible examples validation takes both, and training is short by all of them."""
    with pytest.raises(DataShort) as caught:
        create("infill", {"n_symbols": 2, "n_left": 0, "n_masks": 1, "n_train": 1, "n_val": 2}).build(
            0, Sources()
        )
    assert caught.value.counts["train"] == {
        "candidates": PATIENCE,
        "document of the other split": PATIENCE,
        "built": 0,
        "asked for": 1,
    }


def test_an_empty_half_is_a_shortage(tmp_path: Path) -> None:
    """If all validation examples fall into one half, preparation says so and leaves nothing."""
    short = []
    for seed in range(8):
        try:
            prepare("infill", {"n_train": 4, "n_val": 2}, seed, tmp_path)
        except DataShort as caught:
            short.append(caught)
    assert 0 < len(short) < 8
    for error in short:
        halves = {error.counts["screen half"]["built"], error.counts["confirm half"]["built"]}
        assert halves == {0, 2}
        assert "n_val" in error.sentence
    assert len(list(tmp_path.glob("infill-*"))) == 8 - len(short)


def test_progress_counts_up_to_the_whole() -> None:
    """Progress grows, and ends at n_train + n_val."""
    seen: list[tuple[int, int]] = []
    create("infill", {"n_train": 2000, "n_val": 600}).build(
        0, Sources(), lambda done, of: seen.append((done, of))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) > 5
    assert {of for _, of in seen} == {2600}
    assert seen[-1] == (2600, 2600)
