"""Greedy longest match: at every place the longest token that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_TOKEN = -1  # the key, beside those of the bytes 0..255, under which a node has its token


class Greedy:
    """A trie over the tokens of a vocabulary, in which every single byte must be a token."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """`pieces[id]` is a token; an empty one matches nowhere."""
        self._root: dict[int, Any] = {}
        for token, piece in enumerate(pieces):
            if piece:
                node = self._root
                for byte in piece:
                    node = node.setdefault(byte, {})
                node[_TOKEN] = token

    def encode(self, source: bytes) -> list[int]:
        """The ids of any bytes."""
        root, n = self._root, len(source)
        tokens = []
        start = 0
        while start < n:
            node: Any = root
            for at in range(start, n):
                node = node.get(source[at])
                if node is None:
                    break
                if _TOKEN in node:
                    token, end = node[_TOKEN], at + 1
            tokens.append(token)
            start = end
        return tokens
