"""Says how much a process has downloaded, as long as more comes in, so that whoever waits sees life."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fsearch.system import hub_client
from fsearch.train.job import Channel

_LOOK_EVERY_S = 1.0
_MIB = 1 << 20


@contextmanager
def arrivals(channel: Channel, *phases: str) -> Iterator[None]:
    """Send progress once a second while one of `phases` lasts and bytes arrive."""
    done = threading.Event()

    def watch() -> None:
        said = 0
        while not done.wait(_LOOK_EVERY_S):
            now = hub_client.received_bytes()
            if now != said and channel.phase in phases:
                said = now
                channel.send("progress", doing=f"downloading, {now / _MIB:.1f} MiB so far")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
