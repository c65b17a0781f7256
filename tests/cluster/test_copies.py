"""Data and checkpoints on their way to a node, through a store of pieces."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fsearch.cluster import copies
from fsearch.cluster.copies import fetched, shared


class Pieces:
    """A store of bytes by number, as Ray's is by reference."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.given = 0

    def put(self, piece: bytes) -> int:
        self.kept.append(piece)
        return len(self.kept) - 1

    def get(self, reference: int) -> bytes:
        self.given += 1
        return self.kept[reference]


def test_a_folder_and_a_file_arrive_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of every file, empty ones and those of several pieces among them."""
    monkeypatch.setattr(copies, "PIECE_BYTES", 1000)
    source, pieces = tmp_path / "data", Pieces()
    (source / "train").mkdir(parents=True)
    files = {"meta.json": b"{}", "train/tokens.npy": os.urandom(2500), "train/empty.npy": b""}
    for name, content in files.items():
        (source / name).write_bytes(content)
    fetched(tmp_path / "node" / "data", shared(source, pieces.put), pieces.get)
    arrived = tmp_path / "node" / "data"
    there = [file for file in arrived.rglob("*") if file.is_file()]
    found = {str(file.relative_to(arrived)): file.read_bytes() for file in there}
    assert found == files and len(pieces.kept) == 4
    model = tmp_path / "model.pth"
    model.write_bytes(os.urandom(3000))
    fetched(tmp_path / "node" / "model", shared(model, pieces.put), pieces.get)
    assert (tmp_path / "node" / "model").read_bytes() == model.read_bytes()


def test_a_node_copies_once(tmp_path: Path) -> None:
    """However many of its places want it at the same moment, and half a copy of a killed one is not taken."""
    pieces, model = Pieces(), tmp_path / "model.pth"
    model.write_bytes(b"weights")
    wanted = shared(model, pieces.put)
    target = tmp_path / "node" / "sha"
    (tmp_path / "node" / ".sha.half").mkdir(parents=True)
    (tmp_path / "node" / ".sha.half" / "whole").write_bytes(b"wei")
    threads = [threading.Thread(target=fetched, args=(target, wanted, pieces.get)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == b"weights" and pieces.given == 1
    assert [path.name for path in (tmp_path / "node").glob(".sha.half")] == []
