"""How far a text is from the one that was wanted, in single characters."""

from __future__ import annotations

from collections.abc import Sequence


def edit_distance(given: Sequence[object], wanted: Sequence[object]) -> int:
    """The fewest insertions, deletions and replacements that make one of the other (Levenshtein 1966).

    By rows (Wagner and Fischer 1974): len(given) * len(wanted) comparisons.
    """
    row = list(range(len(wanted) + 1))
    for count, one in enumerate(given, 1):
        above, row[0] = row[0], count
        for place, other in enumerate(wanted, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (one != other))
    return row[-1]


def edit_similarity(given: str, wanted: str) -> float:
    """1 less the distance as a share of the longer text: 1 for equal texts, 0 where nothing is kept."""
    longer = max(len(given), len(wanted))
    return 1.0 - edit_distance(given, wanted) / longer if longer else 1.0
