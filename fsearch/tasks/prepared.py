"""Prepared data: the examples of a task on disk, built once and then only read.

A directory `<cache>/<task>-<hash>/` holds `meta.json`, checksums and, for each of the splits train, screen
and confirm, flat arrays that can be memory-mapped. The hash covers the task, its arguments, the master seed
and the code that builds examples, so a directory never has to be updated: it is there and intact, or it
is built (again). It appears whole, by one rename, and its contents are checked whenever it is opened.

Not here: which examples there are (the task's module), batches, retries, deleting old directories.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fsearch.system import faults
from fsearch.system.disk import require_room
from fsearch.system.files import sha256_file, sync_directory
from fsearch.system.scratch import alone
from fsearch.tasks import registry
from fsearch.tasks.sources import DataRefused, Origin, Sources
from fsearch.tasks.task import (
    BoolArray,
    Built,
    Counts,
    DataShort,
    Example,
    Int32Array,
    Progress,
    Task,
    canonical_json,
    document_hash,
    label,
)

__all__ = ["DataDamaged", "DataShort", "Meta", "Prepared", "Split", "code_sha256", "load", "prepare"]

SplitName = Literal["train", "screen", "confirm"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
FORMAT = 3  # of the directory; goes into the key
CHECKSUMS = "SHA256SUMS"
"""File that all others are checked against before anything is parsed."""


class DataDamaged(Exception):
    """A directory of prepared data is incomplete or its contents have changed. Preparing again mends it."""


class Meta(BaseModel):
    """What `meta.json` says about prepared data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    arguments: dict[str, Any]  # all of them, defaults filled in
    master_seed: int
    code_sha256: str  # of the code that built the examples
    sha256: str  # of the examples and the size of their vocabulary
    vocab_size: int
    n_train: int
    n_val_screen: int
    n_val_confirm: int
    max_tokens: int  # of the longest example, prompt and answer
    chance: float  # expected score of guessing
    majority: float  # score of always giving the most frequent scored target of the training examples
    counts: Counts  # what happened to the candidates of each split
    origins: tuple[Origin, ...]  # what the rows were read from; empty for drawn examples


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The n examples of one split, end to end in flat arrays; example i is `offsets[i]:offsets[i + 1]`."""

    tokens: Int32Array  # [sum of lengths]
    targets: Int32Array  # [sum of lengths], -1 where nothing is trained
    scored: BoolArray  # [sum of lengths]
    offsets: NDArray[np.int64]  # [n + 1]
    prompt_len: Int32Array  # [n]
    document: NDArray[np.uint64]  # [n], hash of the document
    references: Sequence[str] = ()  # [n], or none at all

    def __len__(self) -> int:
        return len(self.prompt_len)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, prompt and answer: [n]."""
        return np.diff(self.offsets)

    def example(self, i: int) -> Example:
        """Example `i`; its document is the hash, in hex, of what the task called it."""
        here = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return Example(
            tokens=self.tokens[here],
            prompt_len=int(self.prompt_len[i]),
            targets=self.targets[here],
            scored=self.scored[here],
            document=f"{int(self.document[i]):016x}",
            reference=self.references[i] if self.references else "",
        )


ARRAYS: dict[str, type[np.generic]] = {
    "tokens": np.int32,
    "targets": np.int32,
    "scored": np.bool_,
    "offsets": np.int64,
    "prompt_len": np.int32,
    "document": np.uint64,
}
"""The files of a split, `<split>/<array>.npy`: the fields of `Split` and their types."""

REFERENCES = "references.json"
"""Beside them: what completions of the examples are judged by, as a list, empty where that is nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Prepared data that has been opened and found intact; the arrays are memory-mapped, read-only."""

    path: Path
    meta: Meta
    splits: Mapping[SplitName, Split]

    def split(self, name: SplitName) -> Split:
        return self.splits[name]


def prepare(
    task: str,
    arguments: Mapping[str, Any],
    master_seed: int,
    cache: Path,
    progress: Progress | None = None,
    sources: Sources | None = None,
) -> Prepared:
    """The prepared data of a task: opened if `cache` has it intact and made of what there is now, else built.

    Several processes may ask for the same data at once: one builds, the others wait and open it.
    Raises ValueError for a wrong task or argument, DataShort where there are too few examples, DataRefused
    and what else `sources` raise where rows cannot be had, OSError where the cache cannot be written.
    """
    if sources is None:
        with Sources(cache) as sources:
            return prepare(task, arguments, master_seed, cache, progress, sources)
    chosen = registry.create(task, arguments)
    code = code_sha256()
    all_arguments = chosen.arguments.model_dump(mode="json")
    key = hashlib.sha256(canonical_json([FORMAT, task, all_arguments, master_seed, code])).hexdigest()[:24]
    path = cache / f"{task}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f".{path.name}.lock"):
        with suppress(FileNotFoundError, DataDamaged):
            found = load(path)
            if all(map(sources.unchanged, found.meta.origins)):
                return found
        built = chosen.build(master_seed, sources, progress)
        screen, confirm = _halves(chosen, built)
        splits: dict[SplitName, Split] = {
            "train": _flat(built.train),
            "screen": _flat(screen),
            "confirm": _flat(confirm),
        }
        meta = Meta(
            task=task,
            arguments=all_arguments,
            master_seed=master_seed,
            code_sha256=code,
            sha256=_sha256(splits, chosen.vocab_size),
            vocab_size=chosen.vocab_size,
            n_train=len(built.train),
            n_val_screen=len(screen),
            n_val_confirm=len(confirm),
            max_tokens=max(int(split.lengths.max()) for split in splits.values()),
            chance=_finite("chance", chosen.chance(built.validation)),
            majority=_finite("majority", chosen.majority(built.train, built.validation)),
            counts=built.counts,
            origins=tuple(sources.origins),
        )
        _write(path, meta, splits)
        return load(path)


def load(path: Path) -> Prepared:
    """Open prepared data and check that it is what was written.

    Raises FileNotFoundError if there is no such directory and DataDamaged if it is not intact.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no prepared data at {path}")
    try:
        intact = (path / CHECKSUMS).read_bytes() == _checksums(path)
    except FileNotFoundError as error:
        raise DataDamaged(f"prepared data at {path} is incomplete ({error}); prepare it again") from error
    if not intact:
        raise DataDamaged(f"prepared data at {path} has changed since it was written; prepare it again")
    meta = Meta.model_validate_json((path / "meta.json").read_bytes())
    return Prepared(path, meta, {name: _open(path / name) for name in SPLITS})


def code_sha256() -> str:
    """Hash of the source of the rooms that decide what an example is: tasks and tokenizer."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for room in ("tasks", "tokenizer"):
        for file in sorted((package / room).rglob("*")):
            inside = file.relative_to(package)
            hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
            if file.is_file() and not hidden:
                digest.update(canonical_json([inside.as_posix(), sha256_file(file)]))
    return digest.hexdigest()


def _halves(task: Task[Any], built: Built) -> tuple[list[Example], list[Example]]:
    """The screen and the confirm half of the validation examples, by one bit of the document's hash."""
    screen = [example for example in built.validation if not document_hash(example.document) & 1]
    confirm = [example for example in built.validation if document_hash(example.document) & 1]
    if not screen or not confirm:
        halves = {"screen half": {"built": len(screen)}, "confirm half": {"built": len(confirm)}}
        raise DataShort(
            f"{label(task.name, task.arguments)}: {len(built.validation)} validation examples leave a half "
            "of the validation set without any. Ask for more of them (n_val).",
            {**built.counts, **halves},
        )
    return screen, confirm


def _finite(level: str, value: float) -> float:
    if not math.isfinite(value):
        raise DataRefused(f"The {level} level of these examples is {value}: some rows hold no number.")
    return value


def _flat(examples: Sequence[Example]) -> Split:
    lengths = [len(example.tokens) for example in examples]
    references = tuple(example.reference for example in examples)
    return Split(
        tokens=np.concatenate([example.tokens for example in examples]),
        targets=np.concatenate([example.targets for example in examples]),
        scored=np.concatenate([example.scored for example in examples]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        prompt_len=np.array([example.prompt_len for example in examples], np.int32),
        document=np.array([document_hash(example.document) for example in examples], np.uint64),
        references=references if any(references) else (),
    )


def _sha256(splits: Mapping[SplitName, Split], vocab_size: int) -> str:
    """What the examples are, however numpy writes them to files."""
    digest = hashlib.sha256(canonical_json(vocab_size))
    for name in SPLITS:
        for field in ARRAYS:
            array = getattr(splits[name], field)
            digest.update(canonical_json([name, field, array.dtype.str, list(array.shape)]))
            digest.update(np.ascontiguousarray(array).data)
        if splits[name].references:
            digest.update(canonical_json([name, "references", list(splits[name].references)]))
    return digest.hexdigest()


def _checksums(path: Path) -> bytes:
    """The lines of `sha256sum` for every other file of the directory. Raises FileNotFoundError."""
    arrays = (f"{split}/{field}.npy" for split in SPLITS for field in ARRAYS)
    names = ["meta.json", *arrays, *(f"{split}/{REFERENCES}" for split in SPLITS)]
    return "".join(f"{sha256_file(path / name)}  {name}\n" for name in names).encode()


def _open(directory: Path) -> Split:
    def mapped(field: str) -> Any:
        return np.load(directory / f"{field}.npy", mmap_mode="r").view(np.ndarray)

    references = json.loads((directory / REFERENCES).read_bytes())
    return Split(**{field: mapped(field) for field in ARRAYS}, references=tuple(references))


def _write(path: Path, meta: Meta, splits: Mapping[SplitName, Split]) -> None:
    """Make the directory `path`, replacing a damaged one. Needs the lock of `prepare`."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    arrays = (getattr(split, field) for split in splits.values() for field in ARRAYS)
    require_room(path, sum(np.asarray(array).nbytes for array in arrays))
    for name in SPLITS:
        (partial / name).mkdir(parents=True)
        for field, dtype in ARRAYS.items():
            with _durable(partial / name / f"{field}.npy") as file:
                np.save(file, np.asarray(getattr(splits[name], field), dtype=dtype))
        with _durable(partial / name / REFERENCES) as file:
            file.write(canonical_json(list(splits[name].references)))
        sync_directory(partial / name)
    with _durable(partial / "meta.json") as file:
        file.write(meta.model_dump_json(indent=2).encode())
    with _durable(partial / CHECKSUMS) as file:
        file.write(_checksums(partial))
    sync_directory(partial)
    shutil.rmtree(path, ignore_errors=True)
    faults.point("before prepared data are in their place")
    partial.rename(path)
    faults.point("after prepared data are in their place")
    sync_directory(path.parent)


@contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """A new file whose bytes are on disk when the block ends."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
