"""What has been learnt of data sets of the hub: what a revision stood for, and which files make up a split.

    <cache>/hub/<owner>--<name>/refs/<revision>                the commit
    <cache>/hub/<owner>--<name>/<commit>/<hash>.json           the files of a configuration

With it, and with the files in the hub's own cache, a data set is read without asking anybody. A file here
that is damaged counts as missing: everything can be learnt again.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from fsearch.system.files import write_atomic

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    return _COMMIT.fullmatch(revision) is not None


class DataFile(BaseModel):
    """A file of a repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str  # in the repository
    digest: str  # SHA-256 (64 hex digits), or the SHA-1 of a git blob (40) for small files

    def is_intact(self, local: Path) -> bool:
        """Whether a local file is this one, byte for byte."""
        content_hash = hashlib.sha256()
        if len(self.digest) == 40:
            content_hash = hashlib.sha1(f"blob {local.stat().st_size}\0".encode())
        with open(local, "rb") as file:
            while piece := file.read(1 << 20):
                content_hash.update(piece)
        return content_hash.hexdigest() == self.digest


class Manifest(BaseModel):
    """What makes up one configuration at one commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    commit: str
    config: str | None  # as it was asked for
    format: str  # as `datasets` calls it
    options: dict[str, Any]  # of the format, where the repository has its own
    features: dict[str, Any] | None  # types of the columns, where the repository names them
    splits: dict[str, tuple[DataFile, ...]]

    def sha256(self, split: str) -> str:
        """Of all files of a split together."""
        lines = "".join(f"{file.digest}  {file.path}\n" for file in self.splits[split])
        return hashlib.sha256(lines.encode()).hexdigest()


class Memory:
    """The folder `hub` in a cache. Raises OSError where it cannot be read or written."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "hub"

    def folder(self, repo: str) -> Path:
        """Where what is known of a data set lies; made if it is not there."""
        folder = self._folder / repo.replace("/", "--")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def commit(self, repo: str, revision: str) -> str | None:
        """What a revision has stood for before."""
        try:
            commit = self._ref(repo, revision).read_text()
        except FileNotFoundError:
            return None
        return commit if is_commit(commit) else None

    def remember_commit(self, repo: str, revision: str, commit: str) -> None:
        path = self._ref(repo, revision)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, commit.encode())

    def manifest(self, repo: str, commit: str, config: str | None) -> Manifest | None:
        """What is known of a configuration."""
        try:
            return Manifest.model_validate_json(self._path(repo, commit, config).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def remember(self, manifest: Manifest) -> None:
        path = self._path(manifest.repo, manifest.commit, manifest.config)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, manifest.model_dump_json(indent=2).encode())

    def _ref(self, repo: str, revision: str) -> Path:
        return self.folder(repo) / "refs" / quote(revision, safe="")

    def _path(self, repo: str, commit: str, config: str | None) -> Path:
        asked = hashlib.sha256((config or "").encode()).hexdigest()[:16]
        return self.folder(repo) / commit / f"{asked}.json"
