"""What a process prints, in a file of limited size: its first part, and its last.

The process writes into a pipe and we into the file, so that a flood slows down whoever makes it and fills
neither the disk nor our memory. Bytes are kept as they came, whatever they are. Nothing printed, no file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque
from pathlib import Path

HEAD_BYTES = 256 << 10
TAIL_BYTES = 256 << 10
ALL_BYTES = 64 << 20
"""Of all the logs of a state together: beyond that the oldest go."""

_PIPE_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
_AT_ONCE_BYTES = 4 << 20  # then whatever else is to be done has its turn


class Log:
    """The log of one process. `writer` is for the process; close it here once the process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd, self.writer = os.pipe()
        os.set_blocking(self._fd, False)
        with contextlib.suppress(OSError):  # more than an ordinary user may have in all
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._head_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out_bytes = 0
        self.ended = False  # nobody can write any more

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Take in what the process has printed since, up to a few MiB of it."""
        taken = 0
        while not self.ended and taken < _AT_ONCE_BYTES:
            try:
                piece = os.read(self._fd, _PIECE_BYTES)
            except BlockingIOError:
                return
            self.ended = not piece
            taken += len(piece)
            self._keep(piece)

    def close(self) -> None:
        """Take in the rest and complete the file. The process must have ended."""
        self.drain()
        os.close(self._fd)
        self.ended = True
        if self._left_out_bytes:
            self._write(b"\n[... %d bytes are left out here ...]\n" % self._left_out_bytes)
        self._write(b"".join(self._tail))

    def _keep(self, piece: bytes) -> None:
        head = piece[: HEAD_BYTES - self._head_bytes]
        self._head_bytes += len(head)
        self._write(head)
        rest = piece[len(head) :]
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail_bytes > TAIL_BYTES:
            over = self._tail_bytes - TAIL_BYTES
            first = self._tail.popleft()
            if len(first) > over:
                self._tail.appendleft(first[over:])
            gone = min(over, len(first))
            self._tail_bytes -= gone
            self._left_out_bytes += gone

    def _write(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError), self._path.open("ab") as file:  # a log is worth no failure
                file.write(data)


def remove_oldest(folder: Path, keep_bytes: int = ALL_BYTES) -> None:
    """Remove the oldest logs of a folder until the rest has at most so many bytes."""
    found = []
    for path in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            found.append((state.st_mtime_ns, state.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > keep_bytes:
            path.unlink(missing_ok=True)
