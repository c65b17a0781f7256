"""hf:// addresses against a hub on the loopback interface that breaks off and comes back."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from fsearch.rwkv7 import HubError, load, weights_sha256
from fsearch.rwkv7.hub import download

from . import official

COMMIT = "4" * 40
ADDRESS = "hf://owner/repo/models/small.pth"


class Hub(ThreadingHTTPServer):
    """One file, models/small.pth of owner/repo.

    `cuts`: how many bytes each coming GET gives before the connection breaks; whole answers after those.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        if self.thread.is_alive():
            self.shutdown()
            self.thread.join()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, wanted = self.server, self.headers.get("Range")
        hub.asked.append((self.command, self.path, wanted))
        missing = {"/owner/repo/": "EntryNotFound", "/owner/gated/": "GatedRepo", "/": "RepoNotFound"}
        if not re.fullmatch(rf"/owner/repo/resolve/(main|{COMMIT})/models/small\.pth", self.path):
            code = next(code for start, code in missing.items() if self.path.startswith(start))
            self.send_response(403 if code == "GatedRepo" else 404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = hub.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if wanted:
            size = len(hub.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            if hub.cuts:
                body = body[: hub.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """30 MB: the client writes down what it has every 10 MiB."""
    path = tmp_path / "local.pth"
    torch.save(official.weights(2, 128, vocab_size=57_000), path)
    return path


@pytest.fixture
def hub(weights_file: Path) -> Iterator[Hub]:
    hub = Hub(weights_file.read_bytes())
    yield hub
    hub.stop()


def loaded(address: str, hub: Hub, home: Path, offline: bool = False) -> str:
    """What a fresh process makes of an address: the hash of the weights, or the kind of error and its text.

    A process of its own, because the client reads its switches when it is imported.
    """
    program = (
        "import sys; from fsearch.rwkv7 import *\n"
        "try: print(weights_sha256(load(sys.argv[1])))\n"
        "except HubError as error: print(type(error).__name__, error)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
    process = subprocess.run(
        [sys.executable, "-c", program, address],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_a_cut_download_goes_on_where_it_was(hub: Hub, weights_file: Path, tmp_path: Path) -> None:
    expected = weights_sha256(load(weights_file))
    hub.cuts = [11_000_000, 12_000_000]
    assert loaded(ADDRESS, hub, tmp_path) == expected
    whole, *rest = [wanted for command, _, wanted in hub.asked if command == "GET"]
    first, second = (int(re.fullmatch(r"bytes=(\d+)-", str(wanted))[1]) for wanted in rest)  # type: ignore[index]
    assert whole is None and 10_000_000 < first <= 11_000_000 and 20_000_000 < second <= first + 12_000_000
    assert {path for _, path, _ in hub.asked} <= {
        f"/owner/repo/resolve/{revision}/models/small.pth" for revision in ("main", COMMIT)
    }, "the hub was asked for something that is no part of the file"

    hub.stop()
    assert loaded(ADDRESS, hub, tmp_path) == expected, "what is in the cache needs no hub"
    at_revision = ADDRESS.replace("repo/", f"repo@{COMMIT}/")
    assert loaded(at_revision, hub, tmp_path, offline=True) == expected


def test_a_download_that_never_comes_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [0] * 100
    words = loaded(ADDRESS, hub, tmp_path)
    assert re.fullmatch(rf"HubUnreachable {ADDRESS} could not be fetched \(.+\)\. Try again later\.", words)


def test_offline(hub: Hub, tmp_path: Path) -> None:
    words = loaded(ADDRESS, hub, tmp_path, offline=True)
    assert words.startswith(f"HubUnreachable {ADDRESS} is not in the cache, and the hub could not be asked (")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://owner/repo/other.pth", "owner/repo has no file other.pth."),
        ("hf://owner/nowhere/small.pth", "there is no repository owner/nowhere at the hub, or it is private"),
        ("hf://owner/gated/small.pth", "is gated: accept its terms on the hub"),
    ],
)
def test_what_the_hub_does_not_have(address: str, words: str, hub: Hub, tmp_path: Path) -> None:
    said = loaded(address, hub, tmp_path)
    assert said.startswith(f"HubError {address}") and words in said


@pytest.mark.parametrize(
    "address", ["hf://", "hf://owner", "hf://owner/repo", "hf://owner/repo/", "hf://a b/repo/small.pth"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(HubError, match="is no address of a file; write hf://owner/repo/file"):
        download(address)
