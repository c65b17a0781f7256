"""The places of a Ray cluster, as the daemon sees them. All of Ray is in another process (`cluster.bridge`).

A run uses places of one kind: of one device model, software and kernel, the kind of which there are most when
it starts. The others are named and not used, because what ran on them could not be compared.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsearch.daemon.child import Running
from fsearch.daemon.devices import Device
from fsearch.daemon.outcomes import Ending
from fsearch.daemon.places import Place, Tell
from fsearch.daemon.stop import StopSignals
from fsearch.store import Store
from fsearch.store.records import Sample
from fsearch.system.messages import Decoder, encode
from fsearch.system.process import kill_group

PROGRAM = "fsearch.cluster.bridge"
SETTLE_S = 120.0
"""How long, after the first place is up, the others are waited for before the run's kind is chosen."""

AGAIN_S = 10.0
"""Between two attempts to reach a cluster that was lost."""

UNREACHABLE = "the Ray cluster is lost; it is tried to be reached again"


class ClusterUnusable(Exception):
    """There is no Ray cluster to be had, or none with places for what was asked; the message says why."""


class RemotePlace:
    """A place on a node, in which an actor is up, or about to be."""

    def __init__(self, name: str, node: str, send: Callable[[dict[str, Any]], None]) -> None:
        self.name, self.node = name, node
        self._send = send
        self.up: dict[str, Any] | None = None  # what it is, while it is up
        self.kind = ""  # of what it is, or will be again: its node is there
        self.child: Running | None = None
        self.reading: Sample | None = None
        self._looked_ahead = False  # whether its agent may have a worker made ready

    @property
    def ready(self) -> bool:
        return self.up is not None

    def held(self) -> str | None:
        return None  # its agent waits for the memory of its GPU

    def fork(self, job: dict[str, Any], log: Path) -> Running:
        self._send({"run": self.name, "job": job, "log": log.name})
        self._looked_ahead = False
        return RemoteChild(self, log)

    def began(self) -> None:
        self.reading = None

    def make_ready(self, job: dict[str, Any], log: Path) -> None:
        self._send({"ahead": self.name, "job": job, "log": log.name})
        self._looked_ahead = True

    def forget(self) -> None:
        if self._looked_ahead:
            self.order("forget")
            self._looked_ahead = False

    def leave(self) -> Running:
        assert self.child is not None
        child, self.child = self.child, None
        return child

    def order(self, what: str) -> None:
        self._send({what: self.name})


class RemoteChild(Running):
    """A worker on another machine."""

    def __init__(self, place: RemotePlace, log: Path) -> None:
        super().__init__()
        self._place, self._log = place, log
        self._said: list[dict[str, Any]] = []
        self._ended: Ending | None = None

    def hear(self, message: dict[str, Any]) -> None:
        self._said.append(message)

    def hear_end(
        self, ending: Ending, log: str = "", *, energy_mj: float | None = None, idle_s: float | None = None
    ) -> None:
        self._ended, self.energy_mj, self.idle_s = ending, energy_mj, idle_s
        if log:
            self._log.write_text(log)

    def read(self) -> list[dict[str, Any]]:
        new, self._said = self._said, []
        for message in new:
            self.take(message)
        return new

    @property
    def open(self) -> Sequence[Any]:
        return ()

    @property
    def ended(self) -> bool:
        return self._ended is not None

    def overdue(self) -> bool:
        return False  # its agent ends what hangs, and Ray says when the agent is gone

    def ask_to_stop(self) -> None:
        self.ending.stopped = True
        self._place.order("stop")

    def kill(self) -> None:
        """End it, and do not wait for its agent to say so: nobody may be there to say it."""
        self._place.order("kill")
        if not self.ended:
            self.hear_end(Ending(stopped=True, phase=self.ending.phase))

    def close(self) -> Ending:
        assert self._ended is not None
        self.read()
        self.ending = self._ended
        return self._ended


class Cluster:
    """All places of one kind of a Ray cluster."""

    def __init__(self, address: str, device: str, threads: int, log: Path) -> None:
        """Starts the bridge: to be called from the main thread, before the record is opened."""
        self.address = address
        self._command = [sys.executable, "-m", PROGRAM, "--parent", str(os.getpid()), "--address", address]
        self._command += ["--device", device, "--threads", str(threads)]
        self._log = log
        self._places: dict[str, RemotePlace] = {}
        self._expected: int | None = None
        self._failures: list[str] = []
        self._kind = ""
        self._store: Store | None = None
        self._tell: Tell = lambda level, text: None
        self._news: list[tuple[Any, str]] = []  # before there is a record to write them in
        self._lost_s = 0.0
        self.device = Device()
        self.environment: dict[str, Any] = {}
        self.backend = ""
        self._connect()

    @property
    def places(self) -> Sequence[Place]:
        """Those of the run's kind, one that is coming back among them; a gone one until it is left."""
        return [place for place in self._places.values() if self._counts(place)]

    @property
    def memory_mib(self) -> int | None:
        ups = [place.up for place in self._places.values() if place.up and self._counts(place)]
        return min((int(up["memory_mib"]) for up in ups if up["memory_mib"] is not None), default=None)

    @property
    def sources(self) -> Sequence[Any]:
        return [self._socket] if self._open else []

    def settle(self, stop: StopSignals) -> None:
        """Wait for the places, and choose the run's kind.

        Raises:
            ClusterUnusable: there is no cluster or no place, or a stop was asked for.
        """
        first_up_s: float | None = None
        while not self._settled(first_up_s):
            if stop.count:
                raise ClusterUnusable("stopped while the places of the Ray cluster were waited for")
            self._receive(0.2)
            if first_up_s is None and any(place.up for place in self._places.values()):
                first_up_s = time.monotonic()
        kinds = Counter(place.kind for place in self._places.values() if place.up)
        if not kinds:
            why = "; ".join(dict.fromkeys(self._failures)) or "it has no node with a device for it"
            raise ClusterUnusable(f"no place of the Ray cluster at {self.address} can be used: {why}")
        self._kind = max(sorted(kinds), key=lambda kind: kinds[kind])
        up = next(place.up for place in self._places.values() if place.up and place.kind == self._kind)
        self.device = Device(up["device"]["torch"], up["device"]["model"], cuda=tuple(up["device"]["cuda"]))
        self.environment, self.backend = up["environment"], up["backend"]
        for place in self._places.values():
            self._name_other_kind(place)

    def use(self, store: Store, tell: Tell) -> None:
        self._store, self._tell = store, tell
        for level, text in self._news:
            tell(level, text)

    def start_up(self) -> str:
        return self.backend

    def renew(self) -> str:
        return self.backend

    def hear(self) -> None:
        self._receive(0.0)

    def mend(self) -> str:
        """Reach for a cluster again that was lost."""
        if not self._open and time.monotonic() - self._lost_s > AGAIN_S:
            self._end_bridge()
            self._connect()
        return ""

    def end(self) -> None:
        self._end_bridge()

    def __str__(self) -> str:
        nodes = len({place.node for place in self.places})
        many = len(self.places)
        places = f"{many} place{'s' * (many != 1)} on {nodes} node{'s' * (nodes != 1)}"
        return f"Ray cluster at {self.address}: {places}, {self.environment['device']}"

    def _connect(self) -> None:
        ours, theirs = socket.socketpair()
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, "--fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        self._socket, self._decoder, self._open = ours, Decoder(), True

    def _end_bridge(self) -> None:
        self._socket.close()
        self._open = False
        if self._process.poll() is None:
            kill_group(self._process.pid)
        self._process.wait()

    def _settled(self, first_up_s: float | None) -> bool:
        answered = len(self._failures) + sum(place.up is not None for place in self._places.values())
        if not self._open or (self._expected is not None and answered >= self._expected):
            return True
        return first_up_s is not None and time.monotonic() - first_up_s > SETTLE_S

    def _counts(self, place: RemotePlace) -> bool:
        return place.child is not None or place.kind == self._kind

    def _receive(self, timeout_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            if self._open:
                selector.register(self._socket, selectors.EVENT_READ)
            while self._open and selector.select(timeout_s):
                try:
                    data = self._socket.recv(1 << 20)
                except ConnectionResetError:
                    data = b""
                for message in self._decoder.feed(data):
                    self._take(message)
                if not data:
                    self._lose_everything()
                timeout_s = 0.0

    def _lose_everything(self) -> None:
        self._open, self._lost_s = False, time.monotonic()
        for place in list(self._places.values()):
            self._lose(place, "the connection to the Ray cluster was lost", node_lost=True)
        if self._kind:
            self._say("warning", UNREACHABLE)

    def _take(self, message: dict[str, Any]) -> None:
        if "places" in message:
            self._expected = int(message["places"])
        if "place" not in message:
            if "failed" in message:
                self._failures.append(str(message["failed"]))
                self._say("warning", str(message["failed"]))
            return
        name, node = message["place"], message["node"]
        place = self._places.setdefault(name, RemotePlace(name, node, self._send))
        child = place.child if isinstance(place.child, RemoteChild) else None
        if "up" in message:
            place.up, place.kind = message["up"], _kind(message["up"])
            self._name_other_kind(place)
        elif "failed" in message:
            self._failures.append(f"{name}: {message['failed']}")
            self._say("warning", f"place {name} cannot be used: {message['failed']}")
        elif "event" in message:
            level, text = message["event"]
            self._say(level, f"{name}: {text}")
        elif "gone" in message:
            self._lose(place, str(message["gone"]), node_lost=bool(message["node_lost"]))
            self._say("warning", str(message["gone"]))
        elif child is None or child.ended:
            return
        elif "message" in message:
            child.hear(message["message"])
        elif "samples" in message and self._store is not None and child.attempt is not None:
            samples = [Sample(**sample) for sample in message["samples"]]
            place.reading = samples[-1]
            self._store.add_telemetry(child.attempt.spec.id, child.attempt.try_number, samples)
        elif "ended" in message:
            child.hear_end(Ending(**message["ended"]), message["log"], **message["measured"])

    def _lose(self, place: RemotePlace, why: str, *, node_lost: bool) -> None:
        child = place.child
        if isinstance(child, RemoteChild) and not child.ended:
            child.hear_end(Ending(lost=why, node_lost=node_lost, phase=child.ending.phase))
        place.up = None
        if node_lost:
            place.kind = ""

    def _name_other_kind(self, place: RemotePlace) -> None:
        if self._kind and place.up and place.kind != self._kind:
            theirs = {**place.up["environment"], "backend": place.up["backend"]}
            ours = {**self.environment, "backend": self.backend}
            names = [name for name in ours if theirs[name] != ours[name]]
            differ = [f"{name} is {theirs[name]}, not {ours[name]}" for name in names]
            self._say("warning", f"place {place.name} is not used, because its {'; its '.join(differ)}")

    def _say(self, level: Any, text: str) -> None:
        if self._store is None:
            self._news.append((level, text))
        else:
            self._tell(level, text)

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # the next look finds that the bridge is gone, and ends what runs there
            self._socket.sendall(encode(message))


def _kind(up: dict[str, Any]) -> str:
    """All in which places of one kind agree."""
    return json.dumps([up["environment"], up["backend"]], sort_keys=True)
