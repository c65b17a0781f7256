"""What every source gives: rows, where they came from, and why they cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from fsearch.system.files import sha256_file

Row = Mapping[str, Any]


class Rows(Protocol):
    """A table that is read row by row, at any place."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Row: ...


class Origin(BaseModel):
    """What rows were read from: enough to have the same rows again, or to see that they are others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # "owner/name" of a data set of the hub, an absolute path, or what a package calls it
    revision: str = ""  # as it was asked for, such as "main"; empty where there are none
    commit: str = ""  # what the revision stood for, 40 hex digits
    sha256: str  # of the files that were read

    @property
    def pin(self) -> str:
        """What a commit is pinned for: the data set and the revision that was asked for."""
        return f"{self.name}@{self.revision}"

    def is_unchanged(self, hashed: Callable[[Path], str] = sha256_file) -> bool:
        """Whether a file of this machine, if it is one, can be read and has the contents that were read."""
        path = Path(self.name)
        try:
            return not path.is_absolute() or hashed(path) == self.sha256
        except OSError:
            return False


class DataRefused(Exception):
    """Rows that cannot be had as the plan asks for them; the text says which, why, and what to do."""
