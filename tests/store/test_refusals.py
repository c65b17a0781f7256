"""A record that cannot be used is refused with a sentence, and left as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fsearch.store import (
    Store,
    StoreCorrupt,
    StoreError,
    StoreMissing,
    StoreNetworkFileSystem,
    StoreNewer,
    StoreOlder,
    StoreUnreadable,
    open_reader,
)
from fsearch.store.place import file_system_of, refuse_network_file_system

from .store_samples import NOBODY, ChildError, contents, in_child, killed_while_writing, ready, run_one


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_text(path: Path) -> None:
    path.write_text("plan: demo\n" * 500)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def cut_to_its_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def page_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = bytes(255 - byte for byte in data[page * 4096 :][:200])
    path.write_bytes(data)


def index_of_other_values(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("DROP INDEX ix_attempt_plan")
    database.execute("CREATE INDEX ix_attempt_plan ON attempt (search)")
    database.execute("PRAGMA writable_schema = ON")
    database.execute(
        "UPDATE sqlite_master SET sql = 'CREATE INDEX ix_attempt_plan ON attempt (\"plan\")' "
        "WHERE name = 'ix_attempt_plan'"
    )
    database.commit()
    database.close()


def of_another_program(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE bookmarks (url)")
    database.close()


DAMAGES: list[Callable[[Path], None]] = [
    emptied,
    a_text,
    cut_off,
    cut_to_its_header,
    page_flipped,
    index_of_other_values,
    of_another_program,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_and_left(path: Path, damage: Callable[[Path], None]) -> None:
    """Whatever lies there instead of a whole record stays, byte for byte, and no file is added."""
    with ready(path) as store:
        for number in range(30):
            run_one(store, number)
    damage(path)
    before = contents(path.parent)
    names = sorted(file.name for file in path.parent.iterdir())
    with pytest.raises(StoreCorrupt, match=r"fsearch\.db.*left as it"):
        Store.open(path)
    assert contents(path.parent) == before
    assert sorted(file.name for file in path.parent.iterdir()) == names


@pytest.mark.parametrize("damage", [emptied, a_text, cut_to_its_header, of_another_program])
def test_viewers_refuse_it_too(path: Path, damage: Callable[[Path], None]) -> None:
    """A viewer of what is no record says so."""
    ready(path).close()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"fsearch\.db"):
        open_reader(path)
    assert path.read_bytes() == before


def test_damage_beside_a_log_with_rows_is_refused_and_left(path: Path) -> None:
    """Where a killed writer left rows in the log, neither database nor log is changed by the refusal."""
    with ready(path) as store:
        for number in range(30):
            run_one(store, number)
    killed_while_writing(path, 33)
    page_flipped(path)
    before = contents(path.parent)
    assert len(before["fsearch.db-wal"]) > 0
    with pytest.raises(StoreCorrupt):
        Store.open(path)
    assert contents(path.parent) == before


def test_a_log_without_its_record_is_refused(path: Path) -> None:
    """A new record is not begun beside the log of one that was moved away: SQLite would mix the two."""
    killed_while_writing(path, 3)
    path.rename(path.with_name("moved"))
    before = contents(path.parent)
    with pytest.raises(StoreCorrupt, match="write-ahead log"):
        Store.open(path)
    assert contents(path.parent) == before


def test_a_folder_at_the_path_is_refused(path: Path) -> None:
    """A folder where the file should be is named."""
    path.mkdir(parents=True)
    with pytest.raises(StoreCorrupt, match="is not a file"):
        Store.open(path)


def test_a_newer_schema_is_refused_and_left(path: Path) -> None:
    """Neither the writer nor a viewer touches what a newer fsearch wrote."""
    ready(path).close()
    database = sqlite3.connect(path)
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    before = contents(path.parent)
    for opening in (Store.open, open_reader):
        with pytest.raises(StoreNewer, match="schema 9999"):
            opening(path)
    assert contents(path.parent)["fsearch.db"] == before["fsearch.db"]


def test_a_viewer_of_an_older_schema_says_who_migrates(released_run: Path) -> None:
    """A viewer migrates nothing; it says what does, and may look after that."""
    before = contents(released_run.parent)
    with pytest.raises(StoreOlder, match=r"has schema 0001, older than .*fsearch run"):
        open_reader(released_run)
    assert contents(released_run.parent)["fsearch.db"] == before["fsearch.db"]
    Store.open(released_run).close()
    with open_reader(released_run) as reader:
        assert len(reader.attempts()) == 14


def test_a_viewer_begins_no_record(tmp_path: Path) -> None:
    """Looking where there is nothing makes nothing."""
    with pytest.raises(StoreMissing, match="no record"):
        open_reader(tmp_path / "state" / "fsearch.db")
    assert list(tmp_path.iterdir()) == []


def named(action: Callable[[], object]) -> str:
    """Name and sentence of the StoreError of an action."""
    try:
        action()
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.skipif("os.getuid() != 0", reason="becoming another user takes root")
@pytest.mark.parametrize("closed", ["file", "folder", "log", "missing folder"])
def test_a_user_who_may_not_write_is_refused(public_path: Path, closed: str) -> None:
    """File, log or folder of another owner: StoreReadOnly names the place, and nothing changed."""
    if closed == "log":
        killed_while_writing(public_path, 1)
        public_path.parent.chmod(0o777)
        public_path.chmod(0o666)
    elif closed != "missing folder":
        ready(public_path).close()
        (public_path if closed == "folder" else public_path.parent).chmod(0o777)
    before = contents(public_path.parent) if public_path.exists() else {}
    told = in_child(lambda: named(lambda: Store.open(public_path)), user=NOBODY)
    assert told.startswith("StoreReadOnly") and str(public_path.parent) in told and "--state" in told
    assert (contents(public_path.parent) if public_path.exists() else {}) == before


@pytest.mark.skipif("os.getuid() != 0", reason="becoming another user takes root")
def test_a_viewer_who_may_not_read_is_told(public_path: Path) -> None:
    """A record closed to others is not called damaged."""
    ready(public_path).close()
    public_path.chmod(0o600)
    told = in_child(lambda: named(lambda: open_reader(public_path)), user=NOBODY)
    assert told.startswith(StoreUnreadable.__name__) and "may not be read" in told


def test_network_file_systems_are_refused(tmp_path: Path) -> None:
    """The file system is the one of the longest mount point, the latest of equals; names may hold blanks."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "server:/home /home nfs4 rw 0 0\n"
        "/dev/sdb /home/local xfs rw 0 0\n"
        "//nas/share /mnt/my\\040share cifs rw 0 0\n"
        "tmpfs /mnt/twice tmpfs rw 0 0\n"
        "server:/x /mnt/twice nfs rw 0 0\n"
    )
    expected = {
        "/srv/state": "ext4",
        "/home/me/state": "nfs4",
        "/home/local/state": "xfs",
        "/homework": "ext4",
        "/mnt/my share/state": "cifs",
        "/mnt/twice/a": "nfs",
    }
    text = mounts.read_text()
    assert {place: file_system_of(Path(place), text) for place in expected} == expected
    with pytest.raises(StoreNetworkFileSystem, match=r"nfs4.*--state"):
        refuse_network_file_system(Path("/home/me/state"), mounts)
    refuse_network_file_system(tmp_path)


def test_errors_of_children_reach_the_test() -> None:
    """The helper that runs as another user does not swallow a failure."""
    with pytest.raises(ChildError, match="ZeroDivisionError"):
        in_child(lambda: 1 // 0)
