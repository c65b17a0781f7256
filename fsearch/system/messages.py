"""Messages between our processes: frames of `<u32 length><u32 crc32 of the payload><payload>`, little endian.

The payload is one JSON object in UTF-8. Floats survive exactly (shortest round-trip form); NaN and infinities
have no JSON form and are sent as null. A frame counts only when complete and with the right checksum: after
anything else the stream is torn, and what follows in it is read and thrown away.

Deliberately not here: what the messages mean, and any waiting (select, deadlines) for them.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import zlib
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

MAX_PAYLOAD_BYTES = 1 << 28
"""Larger lengths are taken for damage. A result with the scores of a million examples stays well below it."""

_HEADER = struct.Struct("<II")
_READ_BYTES = 1 << 16
_READS_AT_ONCE = 64  # so that a flood from one process does not keep its reader from the others


def encode(message: Message) -> bytes:
    """The frame of `message`. Raises ValueError if its payload is larger than MAX_PAYLOAD_BYTES."""
    try:
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nonfinite(message), allow_nan=False, separators=(",", ":"))
    payload = text.encode()
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES} bytes")
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def send(fd: int, message: Message) -> None:
    """Write one frame to `fd` (blocking). Raises BrokenPipeError if nobody is left to read it."""
    rest = memoryview(encode(message))
    while rest:
        rest = rest[os.write(fd, rest) :]


def send_with_fds(channel: socket.socket, message: Message, fds: Sequence[int]) -> None:
    """Write one frame to a Unix socket; copies of the file descriptors `fds` ride on its first byte."""
    frame = encode(message)
    sent = socket.send_fds(channel, [frame], list(fds))
    channel.sendall(frame[sent:])


class Decoder:
    """Turns bytes, in whatever pieces they come, back into messages.

    `torn` becomes True at a wrong checksum, an impossible length or a payload that is no JSON object, and at
    `finish` if the stream ended inside a frame. Nothing is decoded after that.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.torn = False

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`, in order."""
        messages: list[Message] = []
        if self.torn:
            return messages
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            length, checksum = _HEADER.unpack_from(self._buffer, start)
            if length > MAX_PAYLOAD_BYTES:
                self.torn = True
                break
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            message = _decode_payload(bytes(self._buffer[start + _HEADER.size : end]), checksum)
            if message is None:
                self.torn = True
                break
            messages.append(message)
            start = end
        del self._buffer[: len(self._buffer) if self.torn else start]
        return messages

    def finish(self) -> None:
        """Say that the stream has ended."""
        if self._buffer:
            self.torn = True


class Reader:
    """Reads messages from a pipe or socket without waiting: makes `fd` non-blocking, does not close it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.closed = False
        self._decoder = Decoder()

    @property
    def torn(self) -> bool:
        """True if the stream ended inside a frame or held a damaged one."""
        return self._decoder.torn

    def fileno(self) -> int:
        """The descriptor, so that a Reader can be given to select."""
        return self.fd

    def read_available(self) -> list[Message]:
        """The complete messages that have arrived, maybe none. Sets `closed` at the end of the stream."""
        messages: list[Message] = []
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if data:
                messages += self._decoder.feed(data)
            else:
                if not self.closed:
                    self.closed = True
                    self._decoder.finish()
                break
        return messages


def _decode_payload(payload: bytes, checksum: int) -> Message | None:
    if zlib.crc32(payload) != checksum:
        return None
    try:
        message = json.loads(payload)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(item) for item in value]
    return value
