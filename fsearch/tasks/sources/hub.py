"""Splits of data sets of the Hugging Face Hub, at a known commit and byte for byte what the hub has.

    revision --> commit --> the files of a split --> in the hub's cache, checked --> rows

`datasets` says which files make up a split and reads them, but does not download: what lies in its own cache
is taken for any revision, and bytes are not checked. Nothing that is known and there is asked for again.

Deliberately not here: retries and back-off (the daemon); which errors are final (its table).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsearch.system import hub_client
from fsearch.system.scratch import alone
from fsearch.tasks.sources import reader
from fsearch.tasks.sources.layout import CARDS, layout
from fsearch.tasks.sources.manifest import DataFile, Manifest, Memory, is_commit
from fsearch.tasks.sources.rows import DataRefused, Origin, Rows

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


class HubDamaged(Exception):
    """What the hub sends is not what it says it has."""


class HubTables:
    """Reads splits for one preparation, see `Sources`."""

    def __init__(
        self, cache: Path, scratch: Path, pins: Mapping[str, str], entering: Callable[[str], None]
    ) -> None:
        self._memory = Memory(cache)
        self._scratch = scratch
        self._pins = pins
        self._entering = entering

    def read(self, repo: str, config: str | None, split: str, revision: str) -> tuple[Rows, Origin]:
        """The rows of a split, and what they were read from.

        Raises DataRefused for what the data set does not have, HubBusy, HubDamaged, OSError, and the errors
        of the hub's client.
        """
        if not _REPO.fullmatch(repo):
            raise DataRefused(f"{repo!r} is no data set of the hub; write its owner too: owner/name.")
        hub_client.set_up()
        manifest = self._known(repo, config, revision)
        files = None if manifest is None else _in_cache(manifest, split)
        if manifest is None or files is None:
            self._entering("fetch")
            lock = self._memory.folder(repo) / ".lock"
            with alone(lock, waiting=lambda: self._entering("fetch")):
                manifest = self._known(repo, config, revision) or self._learnt(repo, config, revision)
                hub_client.remove_leftovers(f"datasets--{repo.replace('/', '--')}")
                files = [_downloaded(repo, manifest.commit, file) for file in _of_split(manifest, split)]
            self._entering("prepare")
        rows = reader.read(
            f"{_named(repo, config, split)} at {manifest.commit}",
            manifest.format,
            files,
            self._scratch,
            manifest.options,
            manifest.features,
        )
        commit, sha256 = manifest.commit, manifest.sha256(split)
        return rows, Origin(name=repo, revision=revision, commit=commit, sha256=sha256)

    def _known(self, repo: str, config: str | None, revision: str) -> Manifest | None:
        """What makes up a configuration, if nobody has to be asked."""
        commit = self._commit(repo, revision)
        return self._memory.manifest(repo, commit, config) if commit else None

    def _commit(self, repo: str, revision: str) -> str | None:
        if is_commit(revision):
            return revision
        pinned = self._pins.get(f"{repo}@{revision}")
        return pinned or self._memory.commit(repo, revision) or _commit_in_cache(repo, revision)

    def _learnt(self, repo: str, config: str | None, revision: str) -> Manifest:
        """What makes up a configuration, asked of the hub and remembered."""
        from huggingface_hub import HfApi

        asked = self._commit(repo, revision) or revision
        told: Any = HfApi().dataset_info(repo, revision=asked, files_metadata=True)
        if told.siblings is None or not is_commit(told.sha or "") or (is_commit(asked) and asked != told.sha):
            raise HubDamaged(
                f"What answers for the hub knows {repo}, but not its files at {asked}: is it a hub?"
            )
        listed = {
            file.rfilename: DataFile(
                path=file.rfilename, digest=file.lfs.sha256 if file.lfs else file.blob_id
            )
            for file in told.siblings
        }
        cards = {card: _downloaded(repo, told.sha, listed[card]) for card in CARDS if card in listed}
        manifest = layout(repo, config, told.sha, listed, cards)
        self._memory.remember(manifest)
        if not is_commit(revision):
            self._memory.remember_commit(repo, revision, told.sha)
        return manifest


def _named(repo: str, config: str | None, split: str = "") -> str:
    return " ".join(filter(None, [repo, config, split]))


def _of_split(manifest: Manifest, split: str) -> tuple[DataFile, ...]:
    if split not in manifest.splits:
        raise DataRefused(
            f"{_named(manifest.repo, manifest.config)} has no split {split!r}; there are: "
            f"{', '.join(manifest.splits)}."
        )
    return manifest.splits[split]


def _in_cache(manifest: Manifest, split: str) -> list[Path] | None:
    """The files of a split, if all of them are in the hub's cache and whole."""
    from huggingface_hub import try_to_load_from_cache

    files = []
    for file in _of_split(manifest, split):
        path = try_to_load_from_cache(manifest.repo, file.path, revision=manifest.commit, repo_type="dataset")
        if not isinstance(path, str) or not file.is_intact(Path(path)):
            return None
        files.append(Path(path))
    return files


def _commit_in_cache(repo: str, revision: str) -> str | None:
    """What a revision stood for when something was last downloaded by its name, by whatever program."""
    from huggingface_hub import constants

    ref = Path(constants.HF_HUB_CACHE) / f"datasets--{repo.replace('/', '--')}" / "refs" / revision
    with suppress(OSError):
        commit = ref.read_text().strip()
        return commit if is_commit(commit) else None
    return None


def _downloaded(repo: str, commit: str, file: DataFile) -> Path:
    """A file in the hub's cache, whole; got again, once, if it is damaged. Raises HubDamaged."""
    from huggingface_hub import hf_hub_download

    for _ in range(2):
        local = Path(hf_hub_download(repo, file.path, repo_type="dataset", revision=commit))
        if file.is_intact(local):
            return local
        blob = Path(os.path.realpath(local))
        local.unlink()
        blob.unlink(missing_ok=True)
    raise HubDamaged(f"{file.path} of {repo} at {commit} came damaged twice; its hash is not {file.digest}.")
