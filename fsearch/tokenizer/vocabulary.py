"""The file of the World vocabulary: where it is, and whether it is whole.

A line is `ID LITERAL LENGTH`: the id, the token as a Python string or bytes literal, its length in bytes.
Two packages carry the file, one with CRLF and one with LF line ends, hence a hash without carriage returns.
"""

from __future__ import annotations

import ast
import hashlib
from importlib.util import find_spec
from pathlib import Path

FILE = "rwkv_vocab_v20230424.txt"
PACKAGES = ("pyrwkv_tokenizer", "rwkv")

SHA256 = "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89"
"""Of the file's bytes without carriage returns."""


class VocabularyError(Exception):
    """The World vocabulary is missing or is not what it should be; the text is for a person."""


def find() -> Path:
    """The file in an installed package, none of which is imported (`rwkv` would import torch).

    Raises VocabularyError if no package has it.
    """
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder) / FILE
            if path.is_file():
                return path
    raise VocabularyError(
        f"The World vocabulary {FILE} is not installed: it comes with either of the packages "
        "pyrwkv-tokenizer and rwkv. Install one, as `pip install 'fsearch[world]'` does, or give the "
        "path of the file."
    )


def read(path: Path) -> tuple[bytes, ...]:
    """The tokens by id; id 0 is the end of a text and empty.

    Raises VocabularyError for a file that cannot be read or is not the World vocabulary.
    """
    digest = hashlib.sha256()
    pieces = [b""]
    advice = "Install the package that it comes from again, or give the path of a whole file."
    try:
        with path.open("rb") as file:
            for line in file:
                line = line.replace(b"\r", b"")
                digest.update(line)
                pieces.append(_piece(line, len(pieces)))
    except OSError as error:
        raise VocabularyError(f"The World vocabulary {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise VocabularyError(
            f"{path} is not the World vocabulary: line {len(pieces)} {error}. {advice}"
        ) from error
    if digest.hexdigest() != SHA256:
        raise VocabularyError(
            f"{path} is not the World vocabulary of 2023-04-24: it has {len(pieces) - 1} tokens and, without "
            f"carriage returns, the SHA-256 {digest.hexdigest()} instead of {SHA256}. {advice}"
        )
    return tuple(pieces)


def _piece(line: bytes, expected_id: int) -> bytes:
    try:
        number, _, rest = line.decode().partition(" ")
        literal, _, length = rest.rpartition(" ")
        value = ast.literal_eval(literal)
        piece = value.encode() if isinstance(value, str) else value
        if isinstance(piece, bytes) and (int(number), int(length)) == (expected_id, len(piece)):
            return piece
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    shown = line[:60].decode(errors="replace").rstrip("\n")
    raise ValueError(f"should be `{expected_id} LITERAL LENGTH` and is {shown!r}")
