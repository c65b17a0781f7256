"""What single examples say of a confirmed variant, from the scores that the record keeps of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fsearch.search.board import Pair
from fsearch.search.examples import ExampleEffect, Floats, example_effect
from fsearch.search.ids import digest
from fsearch.search.rows import DataFact, Half

ScoresOf = Callable[[str, int, Half, str], Floats | None]
"""A metric of one half by attempt id, try, half and metric, as `Reader.example_values` gives it."""


def effect_of(
    pairs: Sequence[Pair], data: DataFact | None, scores_of: ScoresOf, metric: str
) -> ExampleEffect | None:
    """What the examples of the confirmation say; None where their scores or documents are not known.

    They are not where the data have been prepared anew, with other contents, since the rows were made.
    """
    if not pairs or data is None:
        return None
    half = pairs[0].row.spec.halves[-1]
    documents = data.documents_of(half)
    rows = [row for pair in pairs for row in (pair.row, pair.baseline)]
    if not documents or any(row.fingerprints.get("data") != data.sha256 for row in rows):
        return None
    values = [scores_of(row.spec.id, row.try_number, half, metric) for row in rows]
    known = [value for value in values if value is not None and len(value) == len(documents)]
    if len(known) < len(rows):
        return None
    judged = ~np.isnan(np.stack(known)).any(axis=0)
    kept = [value[judged] for value in known]
    stream = int(digest([row.spec.id for row in rows]), 16)
    return example_effect(
        np.stack(kept[::2]), np.stack(kept[1::2]), np.asarray(documents)[judged].tolist(), stream
    )
