"""Where attempts run: a place runs one at a time. This machine is one place; a cluster has many.

The daemon knows places by what stands here, and decides nothing about them: which attempt goes to which node
is `fsearch.search.next_step`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from fsearch.daemon.card import Card
from fsearch.daemon.child import Child, Running
from fsearch.daemon.devices import Device
from fsearch.daemon.fingerprint import environment
from fsearch.daemon.host_memory import attempt_memory_mib
from fsearch.daemon.telemetry import Telemetry
from fsearch.daemon.workers import Workers
from fsearch.daemon.zygote import Zygote, ZygoteDied
from fsearch.store import Store
from fsearch.store.records import Level, Sample
from fsearch.system.process import lives

NO_KERNEL = "torch-chunked"
"""The backend of a place without a compiled kernel."""

Tell = Callable[[Level, str], object]
"""Says something that a person would want to read in a log."""


class Place(Protocol):
    """Runs one attempt at a time. `child` is what runs now: in a process here, or on the place's node."""

    name: str  # as a person would call it
    node: str  # of a cluster; "" is the daemon's own machine
    child: Running | None

    @property
    def ready(self) -> bool:
        """Whether it could run something if it is free; one that comes back soon is not."""

    @property
    def reading(self) -> Sample | None:
        """The newest one of its GPU, while it trains."""

    def held(self) -> str | None:
        """Why the next training cannot start here yet; None if it can."""

    def fork(self, job: dict[str, Any], log: Path) -> Running:
        """Start a training.

        Raises:
            ZygoteDied: it cannot be started here now; the attempt is to be asked for again.
        """

    def began(self) -> None:
        """The row of what runs here now is written."""

    def make_ready(self, job: dict[str, Any], log: Path) -> None:
        """Have the worker that will likely be started next make itself ready, if there is room for it."""

    def forget(self) -> None:
        """End the worker that was made ready, if there is one."""

    def leave(self) -> Running:
        """What ran here and has ended, with all that is to be written down of it. The place is free."""


class Places(Protocol):
    """All places of one daemon: of one kind, since what ran on two kinds cannot be compared."""

    device: Device  # what every one of them trains on
    environment: dict[str, Any]  # what every one of them trains under, part by part

    @property
    def places(self) -> Sequence[Place]:
        """Those that are there now."""

    @property
    def memory_mib(self) -> int | None:
        """What an attempt may take on every one of them; None if nobody knows."""

    @property
    def sources(self) -> Sequence[Any]:
        """What may have something to be read, for a selector."""

    def use(self, store: Store, tell: Tell) -> None:
        """Write readings of the machines into `store`, and say what a person would want to read."""

    def start_up(self) -> str:
        """Wait until one can train. Gives the backend, "" if the kernel is yet to be built.

        Raises:
            ZygoteDied: torch could not be loaded.
        """

    def hear(self) -> None:
        """Take in what the places and their machines say."""

    def mend(self) -> str:
        """Replace what has died. Gives the backend of what is new, "" where nothing is."""

    def renew(self) -> str:
        """Start anew, with the kernel that is built by now. Gives the backend."""

    def end(self) -> None:
        """End whatever runs."""


class LocalPlace:
    """A device of the machine that this process runs on, its workers, and a zygote that forks them."""

    node = ""
    ready = True

    def __init__(self, zygote: Zygote) -> None:
        self.name = zygote.device.model
        self.zygote = zygote
        self.card: Card | None = None
        self.telemetry: Telemetry | None = None
        self.child: Running | None = None
        self._workers = Workers()

    @property
    def sources(self) -> Sequence[Any]:
        return [self.zygote.socket] if self.zygote.alive else []

    @property
    def memory_mib(self) -> int | None:
        """What an attempt may take here."""
        return self.card.attempt_memory_mib if self.card else attempt_memory_mib()

    @property
    def reading(self) -> Sample | None:
        return self.telemetry.latest if self.telemetry else None

    def held(self) -> str | None:
        """Memory of the GPU that the attempt before has not given back yet."""
        return self.card.waits_for(time.monotonic()) if self.card else None

    def fork(self, job: dict[str, Any], log: Path) -> Child:
        """Start a worker; a zygote that cannot fork one is ended, and replaced by `mend`.

        Raises ZygoteDied.
        """
        if self.telemetry:
            self.telemetry.before()
        try:
            return self._workers.start(job, log, self.zygote)
        except ZygoteDied:
            self.zygote.end()
            raise

    def began(self) -> None:
        if self.telemetry and isinstance(self.child, Child) and self.child.is_worker:
            self.telemetry.begin(self.child)

    def make_ready(self, job: dict[str, Any], log: Path) -> None:
        self._workers.make_ready(job, log, self.zygote)

    def forget(self) -> None:
        self._workers.forget()

    def leave(self) -> Running:
        assert self.child is not None
        child, self.child = self.child, None
        if self.telemetry:
            self.telemetry.end()
        self._workers.ended(child)
        return child

    def hear(self) -> None:
        """Hear of a worker's death, from the zygote or because both are gone."""
        child = self.child if isinstance(self.child, Child) and self.child.is_worker else None
        for death in self.zygote.deaths():
            if child and child.pid == death["exited"]:
                child.zygote_reported(int(death["status"]))
        if child and not child.ended and not self.zygote.alive and not lives(child.pid, child.pid_started):
            child.ending.zygote_died = True
            child.zygote_reported(signal.SIGKILL)
        self._workers.tend(self.zygote, trains=self.child is not None)

    def watch(self) -> None:
        """Take a reading of the GPU; an attempt on one that is lost would wait for it for ever."""
        if self.card is None or self.telemetry is None:
            return
        self.telemetry.sample()
        child = self.child if isinstance(self.child, Child) and self.child.is_worker else None
        if self.card.lost and child and not child.ended and not child.ending.gpu_lost:
            child.ending.gpu_lost = True
            child.kill()

    def mend(self, tell: Tell) -> str | None:
        """Replace a zygote that died, once nothing runs. Gives the backend of a new one."""
        if self.zygote.alive or self.child is not None:
            return None
        tell("warning", "the process that forks workers died; a new one is started")
        return self.renew()

    def renew(self) -> str:
        """A new zygote, with the kernel if it is built by now. Gives the backend."""
        self.forget()
        self.zygote.end()
        self.zygote = self.zygote.successor()
        return self.wait_ready()

    def wait_ready(self) -> str:
        """Wait until torch is loaded. Gives the backend, "" without a kernel.

        A zygote that is killed meanwhile is replaced, at most twice. Raises ZygoteDied.
        """
        for killed in range(3):
            try:
                return self.zygote.wait_ready() or ""
            except ZygoteDied:
                self.zygote.end()
                if killed == 2 or self.zygote.process.returncode >= 0:
                    raise
                self.zygote = self.zygote.successor()
        raise AssertionError("the last time raises")


class Here:
    """The daemon's own machine: one place."""

    def __init__(self, device: Device, threads: int, state: Path) -> None:
        """Starts the zygote: to be called from the main thread, before the record is opened."""
        self.device = device
        self.environment = environment(device.model, threads)
        self._place = LocalPlace(Zygote(device, state / "cache" / "kernel", state / "logs" / "zygote.log"))
        self._tell: Tell = lambda level, text: None

    @property
    def places(self) -> Sequence[Place]:
        return [self._place]

    @property
    def memory_mib(self) -> int | None:
        return self._place.memory_mib

    @property
    def sources(self) -> Sequence[Any]:
        return self._place.sources

    def use(self, store: Store, tell: Tell) -> None:
        self._tell = tell
        if self.device.uuid:
            self._place.card = card = Card(self.device.uuid, tell)
            self._place.telemetry = Telemetry(store, card)

    def start_up(self) -> str:
        return self._place.wait_ready()

    def hear(self) -> None:
        self._place.hear()
        self._place.watch()

    def mend(self) -> str:
        return self._place.mend(self._tell) or ""

    def renew(self) -> str:
        return self._place.renew()

    def end(self) -> None:
        self._place.zygote.end()
