"""Prepared data and checkpoints on their way to the nodes: read once, copied to each node once, by content.

They travel through Ray's object store in pieces. On a node they lie under the hash of what they are, so a
copy that is there is the right one, whoever made it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fsearch.system.files import sync_directory
from fsearch.system.scratch import alone

PIECE_BYTES = 32 << 20

Pieces = Mapping[str, Sequence[Any]]
"""References to the pieces of each file, by its path within the folder; "" for a file that is the whole."""


def shared(path: Path, put: Callable[[bytes], Any]) -> Pieces:
    """A file, or a folder of files, piece by piece in the object store."""
    if path.is_file():
        return {"": _pieces(path, put)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): _pieces(file, put) for file in files}


def fetched(target: Path, pieces: Pieces, get: Callable[[Any], bytes]) -> None:
    """Make the copy at `target`, unless it is there. It appears whole, made by one process of a node.

    Raises OSError where it cannot be written.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target.with_name(f".{target.name}.lock")):
        if target.exists():
            return
        half = target.with_name(f".{target.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        for name, references in pieces.items():
            file = half / (name or "whole")
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as output:
                for reference in references:
                    output.write(get(reference))
                output.flush()
                os.fsync(output.fileno())
        os.replace(half / "whole" if "" in pieces else half, target)
        sync_directory(target.parent)
        shutil.rmtree(half, ignore_errors=True)


def _pieces(file: Path, put: Callable[[bytes], Any]) -> list[Any]:
    references = []
    with file.open("rb") as source:
        while piece := source.read(PIECE_BYTES):
            references.append(put(piece))
    return references
