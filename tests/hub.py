"""A hub on the loopback interface: repositories of models and data sets, and faults that it is told to have.

It speaks the protocol of the Hugging Face Hub as far as its own client and `datasets` ask for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from tests.tables import all_tables

COMMIT = "4" * 40
ADDRESS = "hf://owner/repo/models/small.pth"

Action = Literal[
    "status", "reset", "close", "stall", "slow", "cut", "cutreset", "short", "corrupt", "drop_header"
]


@dataclass
class Fault:
    """What goes wrong with the requests whose "METHOD path" has `match`: `times` of them, after `skip`."""

    match: str
    action: Action
    skip: int = 0
    times: int = 1 << 30
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)  # with a status
    header: str = "X-Repo-Commit"  # that is dropped
    after: int | None = None  # bytes of the body that come before a cut or a stall; default half of it
    pause_s: float = 0.05  # between the pieces of a slow body
    piece: int = 1024  # bytes of a slow body that come at once
    seen: int = 0  # requests that matched


@dataclass
class Repository:
    """Files at commits, the last of which `main` stands for."""

    commits: dict[str, dict[str, bytes]]
    gated: bool = False
    everywhere: bool = False  # every other commit has the files of main: tasks ask for those of the real hub

    @property
    def main(self) -> str:
        return list(self.commits)[-1]

    def commit(self, revision: str) -> str | None:
        """What a revision stands for, None if there is none such."""
        revision = self.main if revision == "main" else revision
        there = revision in self.commits or (self.everywhere and re.fullmatch(r"[0-9a-f]{40}", revision))
        return revision if there else None

    def files(self, commit: str) -> dict[str, bytes]:
        return self.commits.get(commit, self.commits[self.main])


def repository(
    files: Mapping[str, bytes], commit: str = COMMIT, gated: bool = False, everywhere: bool = False
) -> Repository:
    return Repository({commit: dict(files)}, gated, everywhere)


def parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A table as a file."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), file)
    return file.getvalue()


def tables(modules: Iterable[ModuleType] | None = None) -> dict[str, Repository]:
    """Repositories of the data sets in tests/tables, or of some: a card that names parquet files."""
    files: dict[str, dict[str, bytes]] = {}
    cards: dict[str, list[str]] = {}
    for table in all_tables() if modules is None else modules:
        there = files.setdefault(table.REPO, {})
        card = cards.setdefault(table.REPO, [])
        if table.CONFIG is not None:
            card += [f"- config_name: {table.CONFIG}", "  data_files:"]
        for split, rows in table.splits().items():
            path = f"{table.CONFIG or 'data'}/{split}-00000-of-00001.parquet"
            there[path] = parquet(rows)
            if table.CONFIG is not None:
                card += [f"  - split: {split}", f"    path: {path}"]
    for repo, card in cards.items():
        configs = "\n".join(["configs:", *card]) if card else "license: mit"
        files[repo]["README.md"] = f"---\n{configs}\n---\n# {repo}\n".encode()
    return {f"datasets/{repo}": repository(there, everywhere=True) for repo, there in files.items()}


def model(content: bytes) -> dict[str, Repository]:
    """The repository that ADDRESS is a file of, and one that is gated."""
    return {
        "owner/repo": repository({"models/small.pth": content}),
        "owner/gated": repository({"small.pth": content}, gated=True),
    }


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port of this machine at which connections are refused, and that nobody gets by chance; a `Hub` may
    take it over."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server that may come has it
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Hub(ThreadingHTTPServer):
    """`repositories` by owner/name, with datasets/ before it for a data set.

    `faults`: of those that match a request, the first whose turn it is happens. `asked`: method, path and
    range of every request so far. `authorized`: the tokens that came with them.
    """

    daemon_threads = True

    def __init__(
        self, repositories: Mapping[str, Repository], port: int = 0, faults: Iterable[Fault] = ()
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.repositories = dict(repositories)
        self.faults = list(faults)
        self.asked: list[tuple[str, str, str | None]] = []
        self.authorized: set[str] = set()
        self.stopping = threading.Event()
        self._turn = threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        """From now on connections are refused."""
        self.stopping.set()
        if self.thread.is_alive():
            self.shutdown()
            self.thread.join()
            self.server_close()

    def fault(self, request: str) -> Fault | None:
        """What goes wrong with a request."""
        with self._turn:
            due = None
            for fault in self.faults:
                if re.search(fault.match, request):
                    fault.seen += 1
                    if due is None and fault.skip < fault.seen <= fault.skip + fault.times:
                        due = fault
            return due

    def handle_error(self, *_: object) -> None:
        pass  # clients that go away


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, code: str) -> Answer:
    """How the hub says no: `code` is what its client reads."""
    return Answer(status, b"", {"X-Error-Code": code, "X-Error-Message": f"{code} (loopback hub)"})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.respond()

    def respond(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        self.server.authorized.add(self.headers.get("Authorization", ""))
        fault = self.server.fault(f"{self.command} {self.path}")
        answer = self.answer()
        if fault is None:
            return self.send(answer)
        body = answer.body
        if fault.action == "status":
            return self.send(Answer(fault.status, b"", fault.headers))
        if fault.action == "reset":
            return self.break_off(reset=True)
        if fault.action == "close":
            return self.break_off()
        if fault.action == "last":
            self.server.stop()
            self.close_connection = True
        elif fault.action == "drop_header":
            answer.headers.pop(fault.header, None)
        elif fault.action == "corrupt":
            middle = len(body) // 2
            answer.body = (
                body[:middle] + bytes(byte ^ 255 for byte in body[middle : middle + 8]) + body[middle + 8 :]
            )
        elif fault.action == "short" and self.command == "GET":
            answer.body = body[: len(body) // 2]
        elif fault.action == "slow" and self.command == "GET":
            return self.send(answer, range(0, len(body), fault.piece), fault.pause_s)
        elif fault.action == "stall" and fault.after is None:
            self.server.stopping.wait()
            return self.break_off()
        elif fault.action in ("cut", "cutreset", "stall"):
            after = len(body) // 2 if fault.after is None else fault.after
            self.send(answer, upto=after)
            if fault.action == "stall":
                self.server.stopping.wait()
            return self.break_off(reset=fault.action == "cutreset")
        return self.send(answer)

    def send(
        self, answer: Answer, pieces: range | None = None, pause_s: float = 0.0, upto: int | None = None
    ) -> None:
        """An answer, whole or up to a byte, at once or piece by piece."""
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if pieces is None:
            self.wfile.write(answer.body[:upto])
            return
        for start in pieces:
            self.wfile.write(answer.body[start : start + pieces.step])
            if self.server.stopping.wait(pause_s):
                return

    def break_off(self, reset: bool = False) -> None:
        """End the connection with a FIN or, at once, with a RST."""
        self.close_connection = True
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # the two files keep the descriptor open
            self.rfile.close()
            self.wfile.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self) -> Answer:
        """What a hub without faults says."""
        address = urlsplit(self.path)
        path = unquote(address.path).removeprefix("/")
        if match := re.fullmatch(
            r"api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path
        ):
            kind, repo, route, rest = match.groups()
            return self.api(kind, repo, route or "revision", rest or "main", parse_qs(address.query))
        if match := re.fullmatch(r"((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*match.groups())
        return refusal(404, "RepoNotFound")

    def api(self, kind: str, repo: str, route: str, rest: str, query: dict[str, list[str]]) -> Answer:
        repository = self.server.repositories.get(f"datasets/{repo}" if kind == "datasets" else repo)
        if repository is None:
            return refusal(404, "RepoNotFound")
        revision, _, folder = rest.partition("/")
        commit = repository.commit(revision)
        if commit is None:
            return refusal(404, "RevisionNotFound")
        files = repository.files(commit)
        if route == "revision":
            blobs = "blobs" in query
            siblings = [described(path, content, blobs) for path, content in files.items()]
            return as_json({"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": []})
        if route == "paths-info":
            return as_json([entry(path, content) for path, content in files.items()])
        deep = query.get("recursive", ["false"])[0].lower() == "true"
        found = tree(files, folder, deep)
        return as_json(found) if found or not folder else refusal(404, "EntryNotFound")

    def resolve(self, name: str, revision: str, path: str) -> Answer:
        repository = self.server.repositories.get(name)
        if repository is None:
            return refusal(404, "RepoNotFound")
        if repository.gated:
            return refusal(403, "GatedRepo")
        commit = repository.commit(revision)
        if commit is None:
            return refusal(404, "RevisionNotFound")
        content = repository.files(commit).get(path)
        if content is None:
            return refusal(404, "EntryNotFound")
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(path, content)}"', "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Answer(206 if wanted else 200, content[start:], headers)

    def log_message(self, *_: object) -> None:
        pass


def as_json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def in_lfs(path: str) -> bool:
    return path.endswith((".parquet", ".pth"))


def blob_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if in_lfs(path) else blob_sha1(content)


def lfs(path: str, content: bytes, digest: str) -> dict[str, Any]:
    if not in_lfs(path):
        return {}
    return {"lfs": {digest: hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}}


def described(path: str, content: bytes, blobs: bool) -> dict[str, Any]:
    """A file as the route of a revision tells it."""
    more = {"size": len(content), "blobId": blob_sha1(content), **lfs(path, content, "sha256")}
    return {"rfilename": path, **(more if blobs else {})}


def entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as the route of a tree tells it."""
    size = {"size": len(content), "oid": blob_sha1(content)}
    return {"type": "file", "path": path, **size, **lfs(path, content, "oid")}


def tree(files: Mapping[str, bytes], folder: str, deep: bool) -> list[dict[str, Any]]:
    """What lies in a folder, or below it."""
    start = f"{folder.strip('/')}/" if folder.strip("/") else ""
    inside = [path for path in files if path.startswith(start)]
    folders = sorted(
        {start + path[len(start) :].split("/")[0] for path in inside if "/" in path[len(start) :]}
    )
    shown = inside if deep else [path for path in inside if "/" not in path[len(start) :]]
    directories = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
    return directories + [entry(path, files[path]) for path in shown]
