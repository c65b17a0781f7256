"""How a record lies on the disk: one writer, transactions that begin, modes as the umask says."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fsearch.store import Store, StoreError, StoreFull, StoreLocked, open_reader
from fsearch.store.errors import sentence
from tests.mounted_disk import mounted_disk

from .store_samples import begin, contents, in_child, ready, run_one


def test_every_connection_setting_is_on(path: Path) -> None:
    """The writer syncs every commit, checks references and keeps a write-ahead log."""
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    with ready(path) as store:
        for pragma, value in wanted.items():
            with store._writing() as connection:
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value, pragma


def test_transactions_take_the_write_lock_at_their_begin(path: Path) -> None:
    """Inside a transaction, before its first write, a stranger cannot begin one: it was BEGIN IMMEDIATE."""
    with ready(path) as store, store._writing():
        stranger = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("BEGIN IMMEDIATE")
        stranger.close()


def test_a_clean_close_leaves_one_file(path: Path) -> None:
    """Closing folds the log into the database."""
    with ready(path) as store:
        run_one(store, 0)
        assert (path.parent / "fsearch.db-wal").stat().st_size > 0
    assert [file.name for file in path.parent.iterdir()] == ["fsearch.db"]


def test_a_second_writer_is_refused_until_the_first_is_gone(path: Path) -> None:
    """Two stores cannot write one record, in one process or in two; a closed one is out of the way."""
    with ready(path):
        with pytest.raises(StoreLocked, match=r"Another fsearch is writing.*fsearch\.db"):
            Store.open(path)
        assert "StoreLocked" in in_child(lambda: _error_of_opening(path))
    Store.open(path).close()


def _error_of_opening(path: Path) -> str:
    try:
        Store.open(path).close()
    except StoreError as error:
        return type(error).__name__
    return ""


def test_a_strangers_lock_is_waited_for_and_then_named(path: Path) -> None:
    """A SQLite shell that holds the lock beyond the wait gives StoreLocked; afterwards the store works."""
    ready(path).close()
    with Store.open(path, wait_s=0.05) as store:
        stranger = sqlite3.connect(path, isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match="locked by another process"):
            begin(store, 0)
        stranger.execute("ROLLBACK")
        stranger.close()
        begin(store, 0)
        assert len(store.attempts()) == 1


def test_what_stands_in_the_way_can_be_waited_out(path: Path) -> None:
    """Asked each time, `hindered` has every kind of call made again until it succeeds, once."""
    ready(path).close()
    with Store.open(path, wait_s=0.02) as store:
        stranger = sqlite3.connect(path, isolation_level=None)
        told: list[StoreError] = []

        def wait(hindrance: StoreError) -> bool:
            told.append(hindrance)
            if len(told) % 3 == 0:
                stranger.execute("ROLLBACK")
            return True

        store.hindered = wait
        for number, call in enumerate(
            [lambda: begin(store, 0), lambda: store.event("info", "one line"), lambda: store.attempts()], 1
        ):
            stranger.execute("BEGIN IMMEDIATE")
            call()
            assert len(told) == 3 * number
        stranger.close()
        assert {type(error) for error in told} == {StoreLocked}
        assert len(store.attempts()) == 1 and [event.text for event in store.events()] == ["one line"]


def test_room_that_comes_back_lets_the_write_through(path: Path) -> None:
    """No room at any of many writes: with room again each goes on, and no row is lost, halved or doubled."""

    def fill() -> list[int]:
        with ready(path) as store:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            log = path.parent / "fsearch.db-wal"
            hindrances: list[StoreError] = []

            def make_room(hindrance: StoreError) -> bool:
                hindrances.append(hindrance)
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                return True

            store.hindered = make_room
            for number in range(40):
                size = max(log.stat().st_size, path.stat().st_size)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000 * (number % 5), hard))
                run_one(store, number)
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert {type(error) for error in hindrances} == {StoreFull}
            return [len(hindrances), len(store.attempts())]

    hindrances, rows = in_child(fill)
    assert hindrances >= 10 and rows == 40
    with open_reader(path) as reader:
        assert [row.outcome for row in reader.attempts()] == ["completed"] * 40
        assert all(len(reader.evaluations(row.spec.id, 1)) == 2 for row in reader.attempts())


def test_a_real_full_disk_is_waited_out(path: Path) -> None:
    """The same on a file system of 1 MiB that somebody else fills and clears."""
    with mounted_disk(path.parent, "1m") as folder:
        filler = folder / "filler"
        with ready(path) as store:
            full: list[str] = []

            def make_room(hindrance: StoreError) -> bool:
                full.append(type(hindrance).__name__)
                filler.unlink(missing_ok=True)
                return True

            store.hindered = make_room
            for number in range(12):
                if number % 4 == 0:
                    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                        while file.write(b"0" * 4096):
                            pass
                run_one(store, number)
        assert full and set(full) == {"StoreFull"}
        with open_reader(path) as reader:
            assert [row.outcome for row in reader.attempts()] == ["completed"] * 12


def test_a_failed_write_leaves_no_half_row_and_can_be_made_again(path: Path) -> None:
    """When the disk takes no more, the row is not there by halves; with room again the same call works."""

    def fill() -> list[object]:
        with ready(path) as store:
            run_one(store, 0)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            log = path.parent / "fsearch.db-wal"
            resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 5000, hard))
            failure = ""
            try:
                for number in range(1, 100):
                    begin(store, number)
            except StoreError as error:
                failure = str(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            before = len(store.attempts())
            begin(store, number)
            return [failure, number, before, len(store.attempts())]

    failure, failed, before, after = in_child(fill)
    assert "No space is left" in failure and str(path) in failure
    assert before == failed and after == failed + 1
    with open_reader(path) as reader:
        assert len(reader.attempts()) == after


def test_a_full_disk_has_its_own_sentence(path: Path) -> None:
    """SQLite's own error of a full database becomes StoreFull."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        for number in range(9):
            database.execute(f"CREATE TABLE t{number} (x)")
    database.close()
    told = sentence(path, caught.value)
    assert isinstance(told, StoreFull) and "No space is left" in str(told)


@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"), [(0o000, 0o644, 0o755), (0o027, 0o640, 0o750)]
)
def test_modes_are_as_the_umask_says(path: Path, umask: int, file_mode: int, folder_mode: int) -> None:
    """Files are 0644 and folders 0755 less the umask: nobody but the owner ever writes."""

    def modes() -> dict[str, int]:
        os.umask(umask)
        deep = path.parent / "deeper" / "fsearch.db"
        with ready(deep) as store:
            run_one(store, 0)
            places = [deep.parent, deep.parent.parent, *deep.parent.iterdir()]
            return {place.name: stat.S_IMODE(place.stat().st_mode) for place in places}

    assert in_child(modes) == {
        "state": folder_mode,
        "deeper": folder_mode,
        "fsearch.db": file_mode,
        "fsearch.db-wal": file_mode,
        "fsearch.db-shm": file_mode,
    }


def test_reading_as_the_writer_changes_nothing(path: Path) -> None:
    """Questions to the store write no page."""
    with ready(path) as store:
        run_one(store, 0)
        before = contents(path.parent)
        store.attempts(), store.plans(), store.events(), store.daemon(), store.facts()
        assert contents(path.parent) == before


def test_importing_and_opening_load_nothing_heavy(path: Path) -> None:
    """Neither the import nor opening a record that is up to date loads alembic, torch, scipy or numpy."""
    ready(path).close()
    code = (
        "import sys, fsearch.store as s\n"
        "s.Store.open(sys.argv[1]).close(); s.open_reader(sys.argv[1]).close()\n"
        "print([m for m in ('alembic', 'torch', 'scipy', 'numpy') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, path], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
