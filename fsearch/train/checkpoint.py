"""The state of a running attempt on disk, so that an interrupted one goes on with the same numbers.

A file is a line that names the format, the SHA-256 of what follows, and the bytes of torch.save. It is
replaced atomically and the one before is kept beside it (`NAME.previous`): `load` takes the newest one that
is whole and belongs to the attempt. Writing and reading take little memory beside the state itself.

Deliberately not here: what follows where a state cannot be saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.utils.serialization.config  # what the first save imports: a forked worker must find it

from fsearch import kernels
from fsearch.system import files
from fsearch.system.disk import require_room

_FORMAT = b"fsearch training checkpoint 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_BODY = len(_FORMAT) + _DIGEST_BYTES

PARTS = frozenset({"network", "optimizer", "step", "tokens", "first_losses", "early_sha256", "curve"})
"""What a state holds. There is no generator of random numbers among it: none is used once training begins,
and the order of the data follows from the step."""

SHARE = 0.01
"""Of the time of a training, what its checkpoints may take."""

FIRST_BYTES_PER_S = 200e6
"""How fast a disk writes of which nothing is known yet: checksummed and synced, an ordinary one."""


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return path.with_name(path.name + ".previous")


def owner_of(job: Mapping[str, Any]) -> str:
    """Whose checkpoint it is: a hash of all that decides the numbers, so that no other state is taken up."""
    # A moved file has the same weights, and memory changes no number.
    aside = ("try", "checkpoint", "noop_reference", "model_file", "memory_mib")
    deciding = {key: value for key, value in job.items() if key not in aside}
    text = json.dumps([deciding, kernels.backend(job["device"]), torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Kept:
    """The checkpoints of one attempt, as its job wants them: {"path", "every_s"}."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._path, self._every_s = Path(job["checkpoint"]["path"]), job["checkpoint"]["every_s"]
        self._owner = owner_of(job)
        self.begin(0)

    def begin(self, state_bytes: int) -> None:
        """Say that training begins, and about how much a checkpoint will take."""
        self._pace = Pace(self._every_s, state_bytes, time.monotonic())

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self._pace.due(time.monotonic())

    def save(self, state: dict[str, Any]) -> None:
        """Write the next one. Raises OSError as `save` does."""
        began_s = time.monotonic()
        try:
            save(self._path, self._owner, state)
        finally:
            self._pace.saved(began_s, time.monotonic())

    def load(self) -> dict[str, Any] | None:
        """The newest whole state of this attempt, if there is one."""
        return load(self._path, self._owner)


class Pace:
    """When it is time for the next checkpoint: saving takes at most SHARE of the time of a training.

    The next one is expected to take as long as the last; the first, as long as its bytes take at
    FIRST_BYTES_PER_S.
    """

    def __init__(self, least_s: float, state_bytes: int, now_s: float) -> None:
        """`least_s` is the least time from one checkpoint to the next; 0 asks for one after every step,
        whatever it costs. Clocks are monotonic.
        """
        self._least_s = least_s
        self._began_s = self._last_s = now_s
        self._expected_s = state_bytes / FIRST_BYTES_PER_S
        self._spent_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether a checkpoint that begins now keeps to the share."""
        if now_s - self._last_s < self._least_s:
            return False
        within = self._spent_s + self._expected_s <= SHARE * (now_s - self._began_s)
        return within or self._least_s == 0

    def saved(self, began_s: float, ended_s: float) -> None:
        """Take in how long a checkpoint took; one that failed took its time too."""
        self._expected_s = ended_s - began_s
        self._spent_s += self._expected_s
        self._last_s = ended_s


def size_bytes(state: Any) -> int:
    """What the tensors in a state take, in bytes; the rest is small beside them."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(map(size_bytes, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(size_bytes, state))
    return 0


def save(path: Path, owner: str, state: dict[str, Any]) -> None:
    """Write `state` (PARTS, of tensors, numbers, strings, lists and dicts) as the newest one of `owner`.

    Raises OSError (disk full, ...); the checkpoints already there then stay usable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    require_room(path, size_bytes(state))
    with files.writing_atomic(path) as file:
        file.write(_FORMAT + bytes(_DIGEST_BYTES))
        try:
            torch.save({"owner": owner, "state": state}, file)
        except RuntimeError as error:  # which torch raises while it gives up on a file that takes no more
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.seek(_BODY)
        digest = files.sha256_rest(file)
        file.seek(len(_FORMAT))
        file.write(digest)
        if path.exists():
            os.replace(path, previous(path))


def load(path: Path, owner: str) -> dict[str, Any] | None:
    """The newest whole state saved for `owner`, or None: then the attempt starts from step 0.

    Whatever keeps a file from being read, the one before is as good: nothing is raised.
    """
    for candidate in (path, previous(path)):
        state = _read(candidate, owner)
        if state is not None:
            return state
    return None


def _read(path: Path, owner: str) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            head = file.read(_BODY)
            if head != _FORMAT + files.sha256_rest(file):
                return None
            file.seek(_BODY)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    whole = content["owner"] == owner and content["state"].keys() == PARTS
    return content["state"] if whole else None
