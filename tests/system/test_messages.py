"""Frames between processes: exact, and never half read."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import struct
import threading
import zlib
from collections.abc import Iterator

import pytest

from fsearch.system.messages import Decoder, Message, Reader, encode, send, send_with_fds

MESSAGES: list[Message] = [
    {"type": "progress", "step": 3, "loss": 0.1 + 0.2},
    {"text": "Grüße, 世界\n", "nested": {"list": [1, None, True, -1.5e-300]}},
    {},
]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_a_frame_is_length_checksum_and_json() -> None:
    """The bytes on the wire are the documented ones, checked against the format written out by hand."""
    frame = encode({"a": 1})
    payload = frame[8:]
    assert struct.unpack("<II", frame[:8]) == (len(payload), zlib.crc32(payload))
    assert json.loads(payload) == {"a": 1}


def test_messages_come_back_however_they_are_cut() -> None:
    """Fed one byte at a time, every message comes out equal to what was sent, floats to the bit."""
    stream = b"".join(encode(message) for message in MESSAGES)
    decoder = Decoder()
    got: list[Message] = []
    for index in range(len(stream)):
        got += decoder.feed(stream[index : index + 1])
    decoder.finish()
    assert got == MESSAGES
    assert not decoder.torn


def test_no_flipped_bit_goes_unnoticed() -> None:
    """With any one bit of a frame flipped, no message comes out of it and the stream is torn."""
    whole = encode(MESSAGES[0])
    for bit in range(8 * len(whole)):
        frame = bytearray(whole)
        frame[bit // 8] ^= 1 << bit % 8
        decoder = Decoder()
        assert decoder.feed(bytes(frame)) == []
        decoder.finish()
        assert decoder.torn


def test_what_comes_before_the_damage_counts_and_what_follows_does_not() -> None:
    """A damaged frame ends the stream: whole messages before it are delivered, none after it."""
    damaged = bytearray(encode({"second": 2}))
    damaged[-1] ^= 1
    decoder = Decoder()
    assert decoder.feed(encode({"first": 1}) + bytes(damaged) + encode({"third": 3})) == [{"first": 1}]
    assert decoder.feed(encode({"fourth": 4})) == []
    assert decoder.torn


@pytest.mark.parametrize("payload", [b"[1]", b"{", b"\xff", b"1"])
def test_only_json_objects_are_messages(payload: bytes) -> None:
    """A payload with the right checksum that is no JSON object tears the stream."""
    decoder = Decoder()
    assert decoder.feed(struct.pack("<II", len(payload), zlib.crc32(payload)) + payload) == []
    assert decoder.torn


def test_numbers_without_a_json_form_become_null() -> None:
    """NaN and infinities, at any depth, arrive as null; the finite numbers beside them are untouched."""
    (message,) = Decoder().feed(encode({"a": math.nan, "b": [math.inf, 0.1], "c": {"d": -math.inf}}))
    assert message == {"a": None, "b": [None, 0.1], "c": {"d": None}}


def test_reading_never_waits(pipe: tuple[int, int]) -> None:
    """An open pipe without data, or with half a frame, gives an empty list at once and is not closed."""
    reader = Reader(pipe[0])
    assert reader.read_available() == []
    frame = encode({"a": 1})
    os.write(pipe[1], frame[:5])
    assert reader.read_available() == []
    assert (reader.closed, reader.torn) == (False, False)
    os.write(pipe[1], frame[5:])
    assert reader.read_available() == [{"a": 1}]


@pytest.mark.parametrize(("kept", "torn"), [(0, False), (5, True), (12, True)])
def test_the_end_of_the_stream(pipe: tuple[int, int], kept: int, torn: bool) -> None:
    """An end between two frames is a clean end; an end inside one, in header or payload, is a torn stream."""
    os.write(pipe[1], encode({"first": 1}) + encode({"second": 2})[:kept])
    os.close(pipe[1])
    reader = Reader(pipe[0])
    assert reader.read_available() == [{"first": 1}]
    assert (reader.closed, reader.torn) == (True, torn)


def test_a_message_larger_than_the_pipe(pipe: tuple[int, int]) -> None:
    """A message of several pipe buffers is written and read in pieces and arrives whole."""
    message = {"blob": "x" * (1 << 20)}
    writer = threading.Thread(target=send, args=(pipe[1], message))
    writer.start()
    reader, got = Reader(pipe[0]), []
    while not got:
        got = reader.read_available()
    writer.join()
    assert got == [message]


def test_writing_to_nobody_raises(pipe: tuple[int, int]) -> None:
    """When the reading end is gone the writer is told, instead of waiting or dying of a signal."""
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        send(pipe[1], {"a": 1})


def test_descriptors_travel_with_their_message(pipe: tuple[int, int]) -> None:
    """A descriptor sent with a message arrives as a working copy, along with the whole message."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_with_fds(ours, {"fork": "job"}, [pipe[1]])
        data, fds, _, _ = socket.recv_fds(theirs, 4096, 4)
    assert Decoder().feed(data) == [{"fork": "job"}]
    os.write(fds[0], b"hello")
    os.close(fds[0])
    assert os.read(pipe[0], 5) == b"hello"
