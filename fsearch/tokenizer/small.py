"""Vocabularies for small models, which need no file: bytes, and the characters of an alphabet."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from .tokenizer import UNKNOWN_CHARACTER, Tokenizer, scalar_values

UNKNOWN = 1
"""The id of every character outside the alphabet of `Characters`."""


class Bytes(Tokenizer):
    """END, then the 256 bytes of UTF-8: the byte b has the id b + 1, as in the World vocabulary."""

    def __init__(self) -> None:
        every_byte = bytes(range(256))
        pieces = [b"", *(every_byte[b : b + 1] for b in every_byte)]
        super().__init__("bytes", pieces, hashlib.sha256(every_byte).hexdigest())

    def _encode(self, text: str) -> NDArray[np.int32]:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 1


class Characters(Tokenizer):
    """END, UNKNOWN, then the characters of an alphabet in its order.

    A character outside the alphabet becomes UNKNOWN, which decodes to U+FFFD.
    """

    def __init__(self, alphabet: str) -> None:
        """Raises ValueError for an alphabet that is not sorted, repeats a character, or has no character."""
        wanted = "".join(sorted(set(scalar_values(alphabet))))
        if not alphabet or alphabet != wanted:
            raise ValueError(
                f"an alphabet is a sorted string with each character once, not {alphabet!r}; "
                + (f"write {wanted!r}" if wanted else "give it at least one character")
            )
        pieces = [b"", UNKNOWN_CHARACTER.encode(), *(character.encode() for character in alphabet)]
        super().__init__("characters", pieces, hashlib.sha256(alphabet.encode()).hexdigest())
        self._code_points = _code_points(alphabet)

    def _encode(self, text: str) -> NDArray[np.int32]:
        code_points = _code_points(text)
        at = np.searchsorted(self._code_points, code_points).clip(max=len(self._code_points) - 1)
        known = self._code_points[at] == code_points
        return np.where(known, at + UNKNOWN + 1, UNKNOWN).astype(np.int32)


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
