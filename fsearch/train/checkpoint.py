"""The state of a running attempt on disk, so that an interrupted one goes on with the same numbers.

A file is a line that names the format, the SHA-256 of what follows, and the bytes of torch.save. It is
replaced atomically and the one before is kept beside it (`NAME.previous`): `load` takes the newest one that
is whole and belongs to the attempt. Writing and reading take little memory beside the state itself.

Deliberately not here: what the state holds, and when to save it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.utils.serialization.config  # what the first save imports: a forked worker must find it

from fsearch.system import files

_FORMAT = b"fsearch training checkpoint 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_BODY = len(_FORMAT) + _DIGEST_BYTES


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return path.with_name(path.name + ".previous")


def save(path: Path, owner: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) as the newest checkpoint of `owner`.

    Raises OSError (disk full, ...); the checkpoints already there then stay usable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.writing_atomic(path) as file:
        file.write(_FORMAT + bytes(_DIGEST_BYTES))
        torch.save({"owner": owner, "state": state}, file)
        file.seek(_BODY)
        digest = files.sha256_rest(file)
        file.seek(len(_FORMAT))
        file.write(digest)
        if path.exists():
            os.replace(path, previous(path))


def load(path: Path, owner: str) -> dict[str, Any] | None:
    """The newest whole state saved for `owner`, or None: then the attempt starts from step 0."""
    for candidate in (path, previous(path)):
        state = _read(candidate, owner)
        if state is not None:
            return state
    return None


def _read(path: Path, owner: str) -> dict[str, Any] | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        head = file.read(_BODY)
        if head != _FORMAT + files.sha256_rest(file):
            return None
        file.seek(_BODY)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            return None
    return content["state"] if content["owner"] == owner else None
