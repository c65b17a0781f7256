"""The daemon: `run` takes plans to their end. Never imports torch; the only writer of the record."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path

from fsearch.daemon.backups import Backups
from fsearch.daemon.cluster import Cluster, ClusterUnusable
from fsearch.daemon.devices import Device, NoDevice
from fsearch.daemon.devices import find as find_device
from fsearch.daemon.listener import Listener
from fsearch.daemon.lock import DeviceLock, LockHeld
from fsearch.daemon.loop import Daemon, new_daemon_id
from fsearch.daemon.places import Here, Places
from fsearch.daemon.stop import StopSignals
from fsearch.daemon.zygote import ZygoteDied
from fsearch.plan import Plan
from fsearch.store import Store, StoreError
from fsearch.system.process import start_time

__all__ = [
    "ClusterUnusable",
    "Device",
    "Listener",
    "LockHeld",
    "NoDevice",
    "RayCluster",
    "ZygoteDied",
    "find_device",
    "record_path",
    "run",
]


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A Ray cluster to train on: its address, "auto" for this machine's; and "auto", "cpu" or "cuda"."""

    address: str
    device: str

    def __str__(self) -> str:
        return f"Ray cluster at {self.address}"


def record_path(state: Path) -> Path:
    """Where the record of a state folder lies."""
    return state / "fsearch.db"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return str(os.getuid())


def run(plans: list[Plan], state: Path, where: Device | RayCluster, threads: int, listener: Listener) -> int:
    """Run plans to their end, serially on one device or on many of a cluster. Call it from the main thread.

    Returns the exit code: 0 when every search has ended, 130 when stopped by a signal.

    Raises:
        LockHeld: another daemon uses the device.
        ClusterUnusable: the cluster cannot be reached, or has no place.
        StoreError: the record cannot be used; its message says why and what to do.
        ZygoteDied: torch could not be loaded.
    """
    stop = StopSignals()
    asked = ", ".join(plan.name for plan in plans)
    host = socket.gethostname()
    lock: DeviceLock | None = None
    if isinstance(where, Device):  # on a cluster every place has its own
        lock = DeviceLock(where.lock, {"pid": os.getpid(), "host": host, "user": _user(), "plan": asked})
    for folder in ("logs", "checkpoints", "cache"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    # Their zygote comes before the record: nothing that is forked may carry a connection.
    places: Places
    if isinstance(where, Device):
        places = Here(where, threads, state)
    else:
        places = Cluster(where.address, where.device, threads, state / "logs" / "ray.log")
    daemon: Daemon | None = None
    try:
        if isinstance(places, Cluster):
            places.settle(stop)
        with Store.open(record_path(state)) as store, Backups(store) as backups:
            identity = new_daemon_id()
            for plan in plans:
                path = os.path.abspath(plan.source.file)  # a checkpoint's path is relative to it
                store.add_plan(plan.id, name=plan.name, path=path, text=plan.text)
            pid = os.getpid()
            store.start_daemon(
                identity,
                pid=pid,
                pid_started=start_time(pid),
                host=host,
                plan=asked,
                lock=str(lock.path) if lock else str(where),
            )
            daemon = Daemon(
                plans,
                store,
                state,
                places,
                threads=threads,
                daemon_id=identity,
                stop=stop,
                listener=listener,
                backups=backups,
            )
            listener.started(state, str(where if isinstance(where, Device) else places))
            code = daemon.run()
            store.end_daemon(identity)
            listener.finished(code)
            return code
    except StoreError as error:  # closing the record may fail as writing to it did
        if not (daemon and stop.count and daemon.hindrance.lasts):
            raise
        listener.event("warning", f"stopped while the record could not be written: {error}")
        listener.finished(130)
        return 130
    finally:
        places.end()
        if lock:
            lock.release()
