"""Per-example scores as one packed blob, and back; and what metrics say of single examples.

The blob of n examples is n little-endian int32 (right tokens), n int32 (scored tokens), n float64
(summed loss): 16 bytes an example, so n needs no header. numpy is imported only to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fsearch.plan import SCORE
from fsearch.store.records import ExampleScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = bytes | memoryview | NDArray[Any]
    Values = NDArray[np.float64]

_BYTES_PER_EXAMPLE = 16


def pack(correct: Numbers, total: Numbers, loss: Numbers) -> tuple[int, bytes]:
    """Number of examples, and the blob.

    correct, total: int32 [examples]; loss: float64 [examples]; little-endian bytes or arrays.
    Raises ValueError where the lengths do not belong together.
    """
    correct, total, loss = (_bytes_of(part) for part in (correct, total, loss))
    if len(correct) % 4 or len(total) != len(correct) or len(loss) != 2 * len(correct):
        raise ValueError(
            f"Scores of examples must be int32, int32 and float64 of one length; got {len(correct)}, "
            f"{len(total)} and {len(loss)} bytes."
        )
    return len(correct) // 4, correct + total + loss


def _bytes_of(part: Numbers) -> bytes:
    return part if isinstance(part, bytes) else part.tobytes()


def unpack(packed: bytes) -> ExampleScores:
    """The arrays of a blob. Raises ValueError where it is cut off."""
    import numpy as np

    if len(packed) % _BYTES_PER_EXAMPLE:
        raise ValueError(f"A blob of example scores has {len(packed)} bytes, not a multiple of 16.")
    n = len(packed) // _BYTES_PER_EXAMPLE
    return ExampleScores(
        correct=np.frombuffer(packed, "<i4", n).astype(np.int32),
        total=np.frombuffer(packed, "<i4", n, 4 * n).astype(np.int32),
        loss=np.frombuffer(packed, "<f8", n, 8 * n).astype(np.float64),
    )


OF_SCORES: dict[str, Callable[[ExampleScores], Values]] = {
    SCORE: lambda scores: scores.correct / scores.total,
    "whole_answer": lambda scores: (scores.correct == scores.total).astype(float),
}
"""The metrics [examples] that follow from these scores."""


def unpack_values(packed: bytes) -> Values:
    """The metric [examples] of a blob of float64. Raises ValueError where it is cut off."""
    import numpy as np

    return np.frombuffer(packed, "<f8").astype(np.float64)
