"""What every vocabulary is: a table of byte strings, and a way to cut text into them.

Decoding joins the bytes before it reads characters, so it is defined for every sequence of ids, those of
a half-trained model too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

END = 0
"""The id that ends a text, in every vocabulary. No text gives it, and it decodes to nothing."""

UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"

Ids = Sequence[int] | NDArray[np.integer[Any]]


class Tokenizer(ABC):
    """A vocabulary: text to ids and back."""

    name: str
    """Which kind it is."""

    vocab_size: int
    """What a model must provide: ids are 0..vocab_size-1. Not every one of them need have a text."""

    sha256: str
    """Hexadecimal; together with `name` it decides every id."""

    def __init__(
        self, name: str, pieces: Sequence[bytes], sha256: str, vocab_size: int | None = None
    ) -> None:
        """`pieces[id]` is the UTF-8 of an id, or a part of a character; `pieces[END]` is empty.

        `vocab_size` is len(pieces) if not given.
        """
        self.name = name
        self.sha256 = sha256
        self.vocab_size = len(pieces) if vocab_size is None else vocab_size
        self._pieces = tuple(pieces)

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids [T] of a text, without END.

        A lone surrogate, which is not a character, counts as U+FFFD; a pair of them as the character it
        stands for.
        """
        return np.asarray(self._encode(scalar_values(text)), np.int32)

    def decode(self, ids: Ids) -> str:
        """The text of ids [T]; it can always be written as UTF-8, and no integer raises.

        Bytes that form no character become U+FFFD. Ids without a text are left out; `out_of_range` counts
        them.
        """
        pieces, n = self._pieces, len(self._pieces)
        known = (pieces[i] for i in _integers(ids) if 0 <= i < n)
        return b"".join(known).decode("utf-8", errors="replace")

    def out_of_range(self, ids: Ids) -> int:
        """How many of the ids stand for nothing in this vocabulary: negative ones and too large ones."""
        return sum(not 0 <= i < len(self._pieces) for i in _integers(ids))

    @abstractmethod
    def _encode(self, text: str) -> Ids:
        """The ids of a text without surrogates."""


def scalar_values(text: str) -> str:
    """The text without surrogates: pairs joined, lone ones replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")
    return text


def _integers(ids: Ids) -> Sequence[int]:
    return ids.tolist() if isinstance(ids, np.ndarray) else ids
