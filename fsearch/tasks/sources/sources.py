"""The one way from a task to rows, whatever they lie in; it remembers what was read.

Deliberately not here: what a row means (the tasks), retries and back-off (the daemon).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from fsearch.system.scratch import scratch_folder
from fsearch.tasks.sources import fetched, local, packaged
from fsearch.tasks.sources.hub import HubTables
from fsearch.tasks.sources.rows import Origin, Rows


def _ignore(_: str) -> None:
    pass


class Sources:
    """Rows for one preparation. `origins` is what has been read so far, in order.

    A context manager: rows are there until it is closed.
    """

    def __init__(
        self,
        cache: Path | None = None,
        pins: Mapping[str, str] | None = None,
        entering: Callable[[str], None] = _ignore,
    ) -> None:
        """`cache` is the folder of prepared data, `pins` the commits of `Origin.pin`s that are known.

        `entering` is told "fetch" before a network may be waited for and "prepare" when that is over. While
        another process fetches the same data set it is told "fetch" once a second.
        """
        self.cache = cache
        self.pins = dict(pins or {})
        self.entering = entering
        self.origins: list[Origin] = []
        self._held = ExitStack()
        self._read: dict[tuple[str | None, ...], Rows] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was written for reading; rows cannot be used any more."""
        self._held.close()

    def hub(self, repo: str, config: str | None, split: str, revision: str = "main") -> Rows:
        """A split of a data set of the Hugging Face Hub, downloaded if it is not in the hub's cache.

        Raises DataRefused for what there is not, and what `fsearch.tasks.sources.hub` says.
        """
        asked = (repo, config, split, revision)
        return self.once(("hub", *asked), lambda: self._hub.read(*asked))

    def local(self, path: Path) -> Rows:
        """The rows of a .jsonl, .json, .parquet, .csv or .tsv file. Raises DataRefused."""
        return self.once(("local", str(path)), lambda: local.read(path, self._scratch))

    def packaged(self, name: str) -> Rows:
        """The table `name` (.jsonl.gz) that comes with fsearch, in fsearch/tasks/data. Raises DataRefused."""
        return self.once(("packaged", name), lambda: packaged.read(name))

    def fetched(self, name: str) -> Rows:
        """The table `name` that `fsearch data fetch` has made. Raises DataRefused if it is not there."""
        return self.once(("fetched", name), lambda: fetched.read(name))

    def unchanged(self, origin: Origin) -> bool:
        """Whether what was read then would be read now, as far as that can be seen without a network."""
        if origin.commit:
            return self.pins.get(origin.pin, origin.commit) == origin.commit
        return origin.is_unchanged()

    def once(self, asked: tuple[str | None, ...], read: Callable[[], tuple[Rows, Origin]]) -> Rows:
        """What `read` gives for `asked`, read the first time that it is asked for."""
        if asked not in self._read:
            self._read[asked], origin = read()
            self.origins.append(origin)
        return self._read[asked]

    @cached_property
    def _scratch(self) -> Path:
        """Where the rows lie that are being used."""
        if self.cache is None:
            return Path(self._held.enter_context(TemporaryDirectory()))
        self.cache.mkdir(parents=True, exist_ok=True)
        return self._held.enter_context(scratch_folder(self.cache))

    @cached_property
    def _hub(self) -> HubTables:
        return HubTables(self.cache or self._scratch, self._scratch, self.pins, self.entering)
