"""What single examples say of a confirmed variant, from the scores that the record keeps of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fsearch.search.board import Pair
from fsearch.search.examples import ExampleEffect, Floats, example_effect
from fsearch.search.ids import digest
from fsearch.search.rows import Attempt, DataFact, Half
from fsearch.store.records import ExampleScores

ScoresOf = Callable[[str, int, Half], ExampleScores | None]
"""The scores of one half by attempt id and try, as `Reader.example_scores` gives them."""


def effect_of(pairs: Sequence[Pair], data: DataFact | None, scores_of: ScoresOf) -> ExampleEffect | None:
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
    shares = [_shares(row, half, scores_of) for row in rows]
    known = [share for share in shares if share is not None and len(share) == len(documents)]
    if len(known) < len(rows):
        return None
    stream = int(digest([row.spec.id for row in rows]), 16)
    return example_effect(np.stack(known[::2]), np.stack(known[1::2]), documents, stream)


def _shares(row: Attempt, half: Half, scores_of: ScoresOf) -> Floats | None:
    """Share of right tokens of each example [n]."""
    scores = scores_of(row.spec.id, row.try_number, half)
    return None if scores is None else scores.correct / scores.total
