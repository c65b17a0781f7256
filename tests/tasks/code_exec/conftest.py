"""A machine with something to lose."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tasks.code_exec.sandboxes import TOKEN, need_sandbox


@dataclass
class Machine:
    """What must be left alone: a home folder with a token, files of others, listeners."""

    home: Path
    port: int
    name: str  # of a listener in the abstract namespace of UNIX sockets
    listeners: list[socket.socket]

    def visited(self) -> bool:
        """Whether anybody has connected to a listener."""
        for one in self.listeners:
            one.setblocking(False)
            try:
                one.accept()[0].close()
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    need_sandbox()
    home = tmp_path / "home"
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text(TOKEN)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    name = f"fsearch-test-{os.getpid()}"
    abstract = socket.socket(socket.AF_UNIX)
    with closing(socket.create_server(("127.0.0.1", 0))) as loopback, closing(abstract):
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield Machine(home, loopback.getsockname()[1], name, [loopback, abstract])
