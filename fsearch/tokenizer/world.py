"""The World vocabulary of the RWKV models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

from . import vocabulary
from .encoder import Encoder
from .tokenizer import Ids, Tokenizer

VOCAB_SIZE = 65536
"""What the official models provide. The ids with a text are 1..65529; 0 is the end of a text."""


@cache
def world(path: Path | None = None) -> World:
    """The World vocabulary from an installed package, or from the file at `path`; read once a process.

    Raises VocabularyError if there is no file or the wrong one.
    """
    return World(vocabulary.read(vocabulary.find() if path is None else path))


class World(Tokenizer):
    """Greedy longest match over the tokens of the official file; get it from `world`."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__("world", pieces, vocabulary.SHA256, VOCAB_SIZE)

    @property
    def encoder(self) -> str:
        """What encodes, for a person: the fast package, or Python and why."""
        return self._encoder.name

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._pieces)  # not before it is needed: it takes half a second and 270 MiB

    @cached_property
    def _token_of(self) -> dict[bytes, int]:
        return {piece: token for token, piece in enumerate(self._pieces) if piece}

    def _encode(self, text: str) -> Ids:
        # The longest match of a text that is a token is that token: a letter needs no encoder.
        token = self._token_of.get(text.encode())
        return self._encoder.encode(text) if token is None else (token,)
