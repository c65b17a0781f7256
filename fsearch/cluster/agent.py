"""A place on its node: the actor that Ray holds there, with a device, a zygote and the attempt that runs.

It is to the workers what the daemon is on its own machine: the same place, the same zygote, the same watch
over silence and memory. What workers say goes to the bridge; what to run comes from there.

    told    {"run": job, "log": name, "copies": {sha256: pieces}}, {"stop": true}, {"kill": true};
            the first with "ahead" for the worker that is to make itself ready next, {"forget": true} of it
    says    {"up": {...}} once, {"failed": why}, {"event": [level, text]}, {"message": of the worker},
            {"samples": [...]} of the GPU, {"ended": an Ending's fields, "measured": {...}, "log": text}

Everything lies in one folder of the node: `$FSEARCH_NODE_DIR`, else `fsearch-UID` in the temporary folder.
"""

from __future__ import annotations

import os
import queue
import selectors
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fsearch.cluster.copies import fetched
from fsearch.cluster.outbox import Outbox, Said
from fsearch.daemon.card import Card
from fsearch.daemon.child import Child, spawn
from fsearch.daemon.devices import Device, find
from fsearch.daemon.fingerprint import environment
from fsearch.daemon.jobs import build_job, remove_checkpoints
from fsearch.daemon.lock import DeviceLock
from fsearch.daemon.outcomes import Ending, outcome_of
from fsearch.daemon.places import NO_KERNEL, LocalPlace
from fsearch.daemon.telemetry import Telemetry
from fsearch.daemon.zygote import Zygote, ZygoteDied
from fsearch.store.records import Sample
from fsearch.system.scratch import alone

TICK_S = 0.2
RELAYED = ("phase", "progress", "evaluation", "notice")
"""What a worker says meanwhile; its result and its errors come with its ending."""


def node_folder() -> Path:
    """Where everything lies that fsearch keeps on a node."""
    named = os.environ.get("FSEARCH_NODE_DIR")
    return Path(named or f"{tempfile.gettempdir()}/fsearch-{os.getuid()}")


class Agent:
    """The actor. Its work is done by a thread of its own, on which the zygote's life depends."""

    def __init__(self, options: dict[str, Any], get: Callable[[Any], bytes] | None = None) -> None:
        """options: device and threads as `fsearch run` was asked; `share`, the part of the node's memory that
        is for this place; `omp`, the daemon's OMP_NUM_THREADS. get: what gives a piece by its reference."""
        self._options = options
        self._get = get or _get
        self._outbox = Outbox()
        self._told: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        threading.Thread(target=self._live, daemon=True).start()

    def hear(self, heard: int, wait_s: float) -> list[tuple[int, Said]]:
        """What was said after number `heard`, once there is something or the time is over."""
        return self._outbox.take(heard, wait_s)

    def tell(self, what: Said) -> None:
        """Have it run, stop or kill."""
        self._told.put(what)
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _live(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._outbox.put({"failed": f"{type(error).__name__}: {error}"})

    def _serve(self) -> None:
        _set_threads_of_the_environment(self._options["omp"])
        folder = node_folder()
        for name in ("logs", "checkpoints", "cache"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        device = find(self._options["device"])
        if device.uuid:  # held until this process ends
            self._lock = DeviceLock(
                device.uuid, {"pid": os.getpid(), "host": socket.gethostname(), "plan": "ray"}
            )
        kernel = folder / "cache" / "kernel"
        kernel.mkdir(parents=True, exist_ok=True)
        with alone(kernel / ".build.lock"):
            self._build(kernel, device, folder)
        place = LocalPlace(Zygote(device, kernel, folder / "logs" / f"zygote-{os.getpid()}.log"))
        if device.uuid:
            place.card = card = Card(device.uuid, self._event)
            place.telemetry = _Sent(card, self._outbox)
        backend = place.wait_ready() or NO_KERNEL
        memory_mib = place.memory_mib
        self._outbox.put(
            {
                "up": {
                    "device": asdict(device),
                    "environment": environment(device.model, self._options["threads"]),
                    "backend": backend,
                    "memory_mib": None
                    if memory_mib is None
                    else int(memory_mib * (1.0 if device.uuid else self._options["share"])),
                }
            }
        )
        _Serving(place, folder, self._outbox, self._told, self._wake_read, self._get, self._event).forever()

    def _build(self, cache: Path, device: Device, folder: Path) -> None:
        """The kernel for this node, unless it is there; without one it trains with the fallback."""
        log = folder / "logs" / f"build-{os.getpid()}.log"
        child = spawn("build", build_job(cache, device.cuda), log)
        _wait_for(child)
        outcome = outcome_of(child.close())
        if outcome.word != "completed":
            self._event("warning", f"no compiled kernel on {socket.gethostname()}: {outcome.reason}")

    def _event(self, level: str, text: str) -> None:
        self._outbox.put({"event": [level, text]})


class _Serving:
    """The loop of a place that is up."""

    def __init__(
        self,
        place: LocalPlace,
        folder: Path,
        outbox: Outbox,
        told: queue.SimpleQueue[Said],
        wake_fd: int,
        get: Callable[[Any], bytes],
        event: Callable[[str, str], None],
    ) -> None:
        self._place, self._folder = place, folder
        self._outbox, self._told, self._wake_fd = outbox, told, wake_fd
        self._get, self._event = get, event
        self._next: Said | None = None  # what to run, once the GPU's memory is free
        self._log = Path()

    def forever(self) -> None:
        while True:
            self._place.hear()
            self._place.watch()
            if isinstance(child := self._place.child, Child):
                self._attend(child)
            if not self._place.zygote.alive and self._place.child is None:
                self._place.mend(self._event)
            while not self._told.empty():
                self._obey(self._told.get())
            if self._next is not None and self._place.child is None and self._place.held() is None:
                self._run(self._next)
                self._next = None
            self._sleep()

    def _attend(self, child: Child) -> None:
        for message in child.read():
            if message.get("type") in RELAYED:
                self._outbox.put({"message": message})
        child.end_if_it_hangs()
        if child.ended:
            self._place.leave()
            measured = {"energy_mj": child.energy_mj, "idle_s": child.idle_s}
            self._say_ended(child.close(), measured)

    def _obey(self, told: Said) -> None:
        child = self._place.child
        if "run" in told:
            self._next = told
        elif "ahead" in told:
            with suppress(OSError):  # which is said when it is to run
                self._place.make_ready(*self._localised(told["ahead"], told))
        elif "forget" in told:
            self._place.forget()
        elif self._next is not None:
            self._next = None
            self._log = Path()
            self._say_ended(Ending(stopped=True))
        elif child is not None:
            child.ask_to_stop() if "stop" in told else child.kill()

    def _run(self, told: Said) -> None:
        self._job, self._log = told["run"], self._folder / "logs" / told["log"]
        try:
            self._place.child = self._place.fork(*self._localised(told["run"], told))
        except ZygoteDied:
            self._say_ended(Ending(zygote_died=True))
        except OSError as error:
            message = f"its data could not be copied to {self._folder}: {error}"
            error_said = {"exception": "OSError", "message": message}
            self._say_ended(Ending(error=error_said, phase="load", exit_code=1))
        else:
            self._place.began()

    def _localised(self, job: dict[str, Any], told: Said) -> tuple[dict[str, Any], Path]:
        """A job that reads and writes on this node, where what it reads is copied to first, and its log.

        Raises OSError where it cannot be copied.
        """
        folder, copies = self._folder, self._folder / "cache" / "copies"
        for sha256, pieces in told["copies"].items():
            fetched(copies / sha256, pieces, self._get)
        here = {**job, "data": {**job["data"], "path": str(copies / job["data"]["sha256"])}}
        if job["model_file"] is not None:
            path = copies / job["model"]["checkpoint"]
            now = path.stat()
            file = {"path": str(path), "size_bytes": now.st_size, "modified_ns": now.st_mtime_ns}
            here["model_file"] = file
        if job["checkpoint"] is not None:
            path = folder / "checkpoints" / Path(job["checkpoint"]["path"]).name
            here["checkpoint"] = {**job["checkpoint"], "path": str(path)}
        return here, folder / "logs" / told["log"]

    def _say_ended(self, ending: Ending, measured: dict[str, float | None] | None = None) -> None:
        log = ""
        with suppress(OSError):
            log = self._log.read_text(errors="replace")
            self._log.unlink()
        if outcome_of(ending).outcome_class in ("result", "configuration"):
            remove_checkpoints(self._folder, self._job["attempt"])
        self._outbox.put({"ended": asdict(ending), "measured": measured or {}, "log": log})

    def _sleep(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_fd, selectors.EVENT_READ)
            child = self._place.child
            for source in (*self._place.sources, *(child.open if child else ())):
                selector.register(source, selectors.EVENT_READ)
            selector.select(TICK_S)
        with suppress(BlockingIOError):
            os.read(self._wake_fd, 4096)


class _Sent(Telemetry):
    """Readings that go to the daemon, which writes them down."""

    def __init__(self, card: Card, outbox: Outbox) -> None:
        super().__init__(None, card)
        self._outbox = outbox

    def write(self, child: Child, samples: list[Sample]) -> None:
        self._outbox.put({"samples": [asdict(sample) for sample in samples]})


def _set_threads_of_the_environment(omp: str | None) -> None:
    """As the daemon has it. Ray sets a number of its own, and a training is to be the same everywhere."""
    os.environ.pop("OMP_NUM_THREADS", None)
    if omp is not None:
        os.environ["OMP_NUM_THREADS"] = omp


def _wait_for(child: Child) -> None:
    while not child.ended:
        child.read()
        child.end_if_it_hangs()
        with selectors.DefaultSelector() as selector:
            for source in child.open:
                selector.register(source, selectors.EVENT_READ)
            selector.select(TICK_S)


def _get(reference: Any) -> bytes:
    import ray

    piece: bytes = ray.get(reference)
    return piece
