"""The compiled kernel in the state's cache, built if it is not there, for benches that run attempts."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fsearch.daemon.jobs import build_job
from fsearch.system.messages import Message
from fsearch.ui.bench_child import measure


def built(state: Path, screen: Console) -> str:
    """Have it there. Gives the backend; raises UserError where it cannot be built."""
    found: list[str] = []

    def take(message: Message) -> None:
        if message["type"] == "result" and message["outcome"] == "completed":
            found.append(str(message["backend"]))

    measure(
        "build",
        build_job(state / "cache" / "kernel", ()),
        state,
        screen,
        take,
        lambda _: "building the kernel",
    )
    return found[0]
