"""A checkpoint as a file that must stay as it is: inspected once, then loaded by one attempt after another.

Deliberately not here: the format (fsearch.rwkv7.checkpoint), and what follows when a file has changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fsearch.rwkv7 import RWKV7, load


class ModelChanged(Exception):
    """The file of a checkpoint is not the one any more that was looked into."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file, and what tells without reading it whether it was touched since."""

    path: str
    size_bytes: int
    modified_ns: int

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> ModelFile:
        """The file as it is now. Raises OSError."""
        now = os.stat(path)
        return cls(os.fspath(path), now.st_size, now.st_mtime_ns)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Raise ModelChanged, whatever happened inside, unless the file is the same before and after."""
        self._check()
        try:
            yield
        finally:
            self._check()

    def _check(self) -> None:
        try:
            now = ModelFile.at(self.path)
        except OSError as error:
            raise ModelChanged(
                f"{self.path} was inspected and cannot be read now ({error.strerror})"
            ) from error
        if now != self:
            raise ModelChanged(
                f"{self.path} is not the file any more that was inspected: then {self.size_bytes} bytes, now "
                f"{now.size_bytes}, or with another time of change; it is inspected again"
            )


def load_inspected(file: Mapping[str, Any]) -> RWKV7:
    """The model of a job's `model_file`, in float32.

    Raises ModelChanged, and what `fsearch.rwkv7.load` does.
    """
    inspected = ModelFile(**file)
    with inspected.unchanged():
        return load(inspected.path)
