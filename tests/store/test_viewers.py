"""Viewers see every row of the record, whoever they are and whatever the daemon does, and harm nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from fsearch.store import Reader, Store, StoreReadOnly, open_reader

from .store_samples import (
    CURVE,
    NOBODY,
    RESULT,
    begin,
    contents,
    in_child,
    killed_while_writing,
    ready,
    run_one,
)

as_root = pytest.mark.skipif("os.getuid() != 0", reason="becoming another user takes root")


def outcomes(path: Path) -> list[str | None]:
    with open_reader(path) as reader:
        return [attempt.outcome for attempt in reader.attempts()]


def closed_cleanly(path: Path) -> None:
    with ready(path) as store:
        for number in range(3):
            run_one(store, number)
        begin(store, 3)


def killed(path: Path) -> None:
    killed_while_writing(path, 3)
    assert (path.parent / "fsearch.db-wal").stat().st_size > 0


def killed_without_shm(path: Path) -> None:
    killed(path)
    (path.parent / "fsearch.db-shm").unlink()


@as_root
@pytest.mark.parametrize("left", [closed_cleanly, killed, killed_without_shm])
def test_a_stranger_sees_every_row(
    public_path: Path, left: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who cannot write the folder reads all rows, those in the log included, and changes nothing."""
    left(public_path)
    folder = public_path.parent
    before, names = contents(folder), sorted(file.name for file in folder.iterdir())
    scratch = folder.with_name("scratch")
    scratch.mkdir()
    scratch.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen = in_child(lambda: outcomes(public_path), user=NOBODY)
    assert seen == ["completed"] * 3 + [None]
    assert contents(folder) == before and sorted(file.name for file in folder.iterdir()) == names
    assert list(scratch.iterdir()) == []  # no copy is left


@as_root
def test_a_stranger_sees_a_running_daemon(public_path: Path) -> None:
    """While the writer is open its committed rows are seen at once."""
    with ready(public_path) as store:
        run_one(store, 0)
        assert in_child(lambda: outcomes(public_path), user=NOBODY) == ["completed"]
        begin(store, 1)
        assert in_child(lambda: outcomes(public_path), user=NOBODY) == ["completed", None]


class Partner:
    """A stranger's viewer in another process that answers one question at a time."""

    def __init__(self, path: Path, *, ask: Callable[[Reader], Any], user: int = NOBODY) -> None:
        self.to_child, self.from_child = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.to_child[1])
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
                with open_reader(path) as reader:
                    while os.read(self.to_child[0], 1):
                        os.write(self.from_child[1], f"{ask(reader)}\n".encode())
            except BaseException as error:
                os.write(self.from_child[1], f"{error!r}\n".encode())
            os._exit(0)
        os.close(self.to_child[0])
        os.close(self.from_child[1])

    def answer(self) -> str:
        os.write(self.to_child[1], b"?")
        return os.read(self.from_child[0], 10_000).decode().strip()

    def leave(self) -> None:
        os.close(self.to_child[1])
        os.waitpid(self.pid, 0)
        os.close(self.from_child[0])


@as_root
@pytest.mark.parametrize("left", [closed_cleanly, killed, killed_without_shm])
def test_an_open_viewer_follows_the_next_daemon(public_path: Path, left: Callable[[Path], None]) -> None:
    """A stranger's viewer opened before a daemon starts sees what that daemon writes, and what it leaves."""
    left(public_path)
    partner = Partner(public_path, ask=lambda reader: len(reader.attempts()))
    try:
        assert partner.answer() == "4"
        with Store.open(public_path) as store:
            store.interrupt_unfinished("found running")
            run_one(store, 10)
            assert partner.answer() == "5"
            run_one(store, 11)
            assert partner.answer() == "6"
        assert partner.answer() == "6"
        with Store.open(public_path) as store:
            run_one(store, 12)
        assert partner.answer() == "7"
    finally:
        partner.leave()


@as_root
def test_an_answer_read_while_the_file_changed_is_asked_again(public_path: Path) -> None:
    """Without SQLite's locks, an answer during which a writer came by is thrown away."""
    closed_cleanly(public_path)
    asked, written = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(asked[0], 1)
        with Store.open(public_path) as store:
            run_one(store, 20)
        os.write(written[1], b"!")
        os._exit(0)

    def look() -> list[int]:
        counts: list[int] = []

        def count(connection: Connection) -> int:
            found = int(connection.execute(text("SELECT count(*) FROM attempt")).scalar_one())
            if not counts:
                os.write(asked[1], b"?")
                os.read(written[0], 1)
            counts.append(found)
            return found

        with open_reader(public_path) as reader:
            return [*counts, reader._read(count), len(counts)]

    assert in_child(look, user=NOBODY) == [5, 2]
    os.waitpid(child, 0)


@contextmanager
def ten_viewers(path: Path) -> Iterator[Callable[[], list[int]]]:
    """Ten processes that read a record without pause; what is given stops them and says how they ended."""
    ready(path).close()
    stop_read, stop_write = os.pipe()
    ready_read, ready_write = os.pipe()
    os.set_blocking(stop_read, False)
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(_watch(path, stop_read, ready_write))
        children.append(child)
    for _ in children:
        os.read(ready_read, 1)

    def stopped() -> list[int]:
        os.write(stop_write, b"." * len(children))
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    yield stopped
    for end in (stop_read, stop_write, ready_read, ready_write):
        os.close(end)


def _watch(path: Path, stop: int, ready_pipe: int) -> int:
    seen = 0
    with open_reader(path) as reader:
        os.write(ready_pipe, b"r")
        while True:
            attempts = reader.attempts()
            done = [attempt for attempt in attempts if attempt.outcome == "completed"]
            if len(attempts) < seen or len(attempts) - len(done) > 1:
                return 2
            if done and len(reader.evaluations(done[-1].spec.id, 1)) != 2:
                return 3
            seen = len(attempts)
            try:
                os.read(stop, 1)
            except BlockingIOError:
                continue
            return 0


def test_ten_viewers_during_writes(path: Path) -> None:
    """Ten processes reading without pause: none meets a lock, each sees only whole attempts, the log stays
    small."""
    with ten_viewers(path) as stopped, Store.open(path) as store:
        for number in range(40):
            run_one(store, number)
        log_mib = (path.parent / "fsearch.db-wal").stat().st_size / 2**20
        assert stopped() == [0] * 10
    assert log_mib < 8  # SQLite folds it back at 1000 pages of 4 KiB unless a viewer holds it up


def test_ten_viewers_live_through_a_crash(path: Path) -> None:
    """Ten processes that read without pause while the writer is killed and the next one goes on: none meets a
    lock or loses a row that it has seen."""
    with ten_viewers(path) as stopped:
        killed_while_writing(path, 10)
        with Store.open(path) as store:
            store.add_evaluations("a10", 1, CURVE)
            store.finish("a10", 1, "completed", "result", **RESULT)
            store.start_daemon("d2", pid=1, pid_started=None, host="here", plan="demo", lock="cpu")
            for number in range(11, 20):
                run_one(store, number, daemon="d2")
            assert stopped() == [0] * 10
            assert len(store.attempts()) == 20


def test_an_open_viewer_does_not_stop_the_log_from_being_folded_back(path: Path) -> None:
    """A viewer holds no transaction between questions: a writer can take every page out of the log."""
    with ready(path) as store, open_reader(path) as reader:
        run_one(store, 0)
        assert len(reader.attempts()) == 1
        run_one(store, 1)
        stranger = sqlite3.connect(path, timeout=0)
        blocked, pages, folded = stranger.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        stranger.close()
        assert (blocked, folded) == (0, pages) and len(reader.attempts()) == 2


def test_a_viewer_cannot_write(path: Path) -> None:
    """Not even by its own connection."""
    ready(path).close()
    with open_reader(path) as reader, pytest.raises(StoreReadOnly):
        reader._read(lambda connection: connection.execute(text("DELETE FROM event")))


def test_a_viewer_follows_a_replaced_record(path: Path) -> None:
    """Where the record was moved away and begun anew, an open viewer shows the new one."""
    closed_cleanly(path)
    with open_reader(path) as reader:
        assert len(reader.attempts()) == 4
        shutil.rmtree(path.parent)
        with ready(path) as store:
            run_one(store, 0)
        assert len(reader.attempts()) == 1


def test_a_viewer_lives_through_a_crash(path: Path) -> None:
    """A viewer open when the writer is killed sees its acknowledged rows, then those of the next writer."""
    ready(path).close()
    with open_reader(path) as reader:
        assert reader.attempts() == []
        killed_while_writing(path, 2)
        assert [attempt.outcome for attempt in reader.attempts()] == ["completed", "completed", None]
        with Store.open(path) as store:
            store.interrupt_unfinished("found running")
            assert [attempt.outcome for attempt in reader.attempts()][-1] == "interrupted"
        assert len(reader.attempts()) == 3
