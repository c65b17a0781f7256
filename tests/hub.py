"""A hub of models on the loopback interface that breaks off and comes back."""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "4" * 40
ADDRESS = "hf://owner/repo/models/small.pth"


class Hub(ThreadingHTTPServer):
    """One file, models/small.pth of owner/repo.

    `cuts`: how many bytes each coming GET gives before the connection breaks; whole answers after those.
    """

    daemon_threads = True

    def __init__(self, content: bytes, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
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
