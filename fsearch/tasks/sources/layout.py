"""Which files of a data set's repository make up which split, as `datasets` sees it.

It is asked about a folder of empty files that are named like those of the repository, beside the true cards,
and so without a network: asked about the repository itself, it takes a hub that fails for a file that is not
there, and says that a data set is empty, or leaves a card out of account.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from fsearch.system.chain import chain
from fsearch.tasks.sources import reader
from fsearch.tasks.sources.manifest import DataFile, Manifest
from fsearch.tasks.sources.rows import DataRefused

CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files that say what a data set is made of."""

_OF_EVERY_FORMAT = frozenset({"name", "version", "data_dir", "data_files", "description", "features"})


def layout(
    repo: str, config: str | None, commit: str, listed: Mapping[str, DataFile], cards: Mapping[str, Path]
) -> Manifest:
    """What makes up a configuration of a repository that has the files `listed`, and `cards` among them.

    Raises DataRefused where there is no such configuration, or nothing that can be read.
    """
    owner, _, name = repo.partition("/")
    if f"{name}.py" in listed:
        raise DataRefused(
            f"{repo} is made by a script, {name}.py, which `datasets` runs no more. Look for a copy in "
            "parquet; the hub has one of many data sets as their revision refs/convert/parquet."
        )
    with TemporaryDirectory() as made:
        folder = Path(made).resolve() / owner / name
        for path in listed:
            if not {"..", "/"} & set(PurePosixPath(path).parts):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(cards[path].read_bytes() if path in cards else b"")
        builder = _builder(folder, repo, config, commit)
        files = builder.config.data_files or {}
        splits = {split: [_inside(folder, file) for file in found] for split, found in files.items()}
    called = repo if config is None else f"{repo} {config}"
    format = builder.__module__.rpartition(".")[2]
    if format not in reader.FORMATS.values():
        raise DataRefused(
            f"{called} is kept as {format}, which cannot be used here. It has to be one of "
            f"{', '.join(reader.FORMATS)}."
        )
    if strangers := [path for paths in splits.values() for path in paths if path not in listed]:
        raise DataRefused(f"{called} refers to {strangers[0]}, which is no file of it at {commit}.")
    features = builder.info.features
    return Manifest(
        repo=repo,
        commit=commit,
        config=config,
        format=format,
        options=_own_options(builder.config),
        features=None if features is None else features.to_dict(),
        splits={str(split): tuple(listed[path] for path in paths) for split, paths in splits.items()},
    )


def _builder(folder: Path, repo: str, config: str | None, commit: str) -> Any:
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return datasets.load_dataset_builder(str(folder), name=config, cache_dir=str(folder.parent))
    except Exception as error:
        if any(getattr(link, "errno", None) is not None for link in chain(error)):
            raise
        said = f"{error or type(error).__name__}".split("\nExample of usage")[0].replace(str(folder), repo)
        if said.startswith("Config name is missing"):
            raise DataRefused(f"{repo} has several configurations. {' '.join(said.split())}") from error
        if said.startswith("BuilderConfig "):
            raise DataRefused(f"{repo} has no configuration {config!r}. {said}") from error
        raise DataRefused(
            f"{repo} at {commit} holds nothing that `datasets` can read ({said.splitlines()[0]}). Look at "
            "its page at the hub, and at the revision in the plan."
        ) from error


def _inside(folder: Path, file: str) -> str:
    return Path(file).relative_to(folder).as_posix() if Path(file).is_relative_to(folder) else file


def _own_options(config: Any) -> dict[str, Any]:
    """What a repository says on how its files are to be parsed, such as the separator of a table."""
    return {
        field.name: value
        for field in dataclasses.fields(config)
        if field.name not in _OF_EVERY_FORMAT
        and field.default_factory is dataclasses.MISSING
        and (value := getattr(config, field.name)) != field.default
    }
