"""The data of every search of a plan, prepared one after another as a run would, into the same cache.

Nothing is written into the record: `fsearch run` finds the data prepared and records that.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from fsearch.daemon import record_path
from fsearch.daemon.child import Child, spawn
from fsearch.daemon.jobs import prepare_job
from fsearch.daemon.known import pins_of
from fsearch.daemon.outcomes import outcome_of
from fsearch.plan import Plan, Search, expand
from fsearch.search.specs import prepare_spec, search_data_key
from fsearch.tasks import prepared
from fsearch.tasks.prepared import Prepared
from fsearch.tasks.registry import label
from fsearch.ui.errors import STATE, UserError
from fsearch.ui.layout import console, put
from fsearch.ui.state import looking, shown

_LOOK_EVERY_S = 0.2
_SAY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One data set, and the labels of the searches that train on it."""

    search: Search
    searches: tuple[str, ...]

    @property
    def label(self) -> str:
        """Task and arguments."""
        return label(self.search.task, self.search.arguments)


@dataclass(frozen=True, slots=True)
class Ready:
    """How the preparation of one data set ended; without `data` where it could not be done."""

    wanted: Wanted
    outcome: str
    reason: str
    seconds: float
    data: Prepared | None
    log: Path | None  # what its process printed, where there is something


Watch = Callable[[str], None]
"""Told again and again what a preparation is doing."""


def wanted(plan: Plan) -> list[Wanted]:
    """The distinct data sets of a plan, in the order in which they are trained on."""
    by_key: dict[str, list[Search]] = {}
    for search in expand(plan):
        by_key.setdefault(search_data_key(search), []).append(search)
    return [Wanted(found[0], tuple(search.label for search in found)) for found in by_key.values()]


def make_folders(state: Path) -> None:
    """Make what a preparation writes into. Raises UserError where that cannot be."""
    try:
        for name in ("logs", "cache/data"):
            (state / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sentence = f"The state folder {shown(state)} cannot be made ({error.strerror}). Give another --state."
        raise UserError(sentence, STATE) from error


def known_pins(state: Path) -> dict[str, str]:
    """The commits that the record knows of revisions; empty without a record. Raises UserError."""
    if not record_path(state).exists():
        return {}
    with looking(state) as reader:
        return pins_of(reader.facts().values())


def prepare(one: Wanted, state: Path, pins: dict[str, str], watch: Watch) -> Ready:
    """Prepare one data set in a process of its own, and open it. The process does not outlive this call.

    `pins` are the commits of revisions that are known; those that were read are added.
    """
    began = time.monotonic()
    log = state / "logs" / f"check-{search_data_key(one.search)}.log"
    log.unlink(missing_ok=True)
    job = prepare_job(prepare_spec(one.search, ""), state / "cache" / "data", pins)
    child = spawn("prepare", job, log)
    try:
        while not child.ended:
            select.select(child.open, [], [], _LOOK_EVERY_S)
            child.read()
            watch(_doing(child))
            if child.overdue() and child.ending.silent_s is None:
                child.ending.silent_s = child.silent_s()
                child.kill()
    finally:
        child.kill()
    ending = child.close()
    outcome = outcome_of(ending)
    data = None
    if outcome.word == "completed":
        assert ending.result is not None
        data = prepared.load(Path(ending.result["data"]["path"]))
        pins |= {origin.pin: origin.commit for origin in data.meta.origins if origin.commit}
    return Ready(
        one, outcome.word, outcome.reason, time.monotonic() - began, data, log if log.exists() else None
    )


@contextmanager
def watching(title: str) -> Iterator[Watch]:
    """Say on stderr what a preparation is doing: one changing line on a terminal, some lines elsewhere."""
    screen = console(stderr=True)
    if screen.is_terminal:
        with screen.status(Text(title), spinner="line") as status:
            yield lambda doing: status.update(Text(f"{title}: {doing}"))
        return
    put(screen, [Text(title)])
    said_s = time.monotonic()

    def say(doing: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= _SAY_EVERY_S:
            said_s = time.monotonic()
            put(screen, [Text(f"{title}: {doing}")])

    yield say


def _doing(child: Child) -> str:
    progress = child.progress
    if "doing" in progress:
        return str(progress["doing"])
    if child.ending.phase == "fetch":
        return "fetching"
    if "done" in progress:
        return f"{progress['done']:,} of {progress['of']:,} examples"
    return "building examples" if child.ending.phase == "prepare" else "starting"
