"""Copies of the record: whole or not there, of one moment, few, and the way back from damage."""

from __future__ import annotations

import os
import shlex
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fsearch.daemon.backups import KEPT, Backups
from fsearch.store import Store, StoreCorrupt, StoreFull, open_reader
from fsearch.store import backup as of_backup
from fsearch.store.backup import backup_name, backups, going_on
from fsearch.system import disk
from fsearch.ui.errors import STATE, UserError
from fsearch.ui.state import looking
from tests.mounted_disk import mounted_disk

from .store_samples import CURVE, begin, contents, in_child, killed_while_writing, ready, run_one
from .test_refusals import emptied, page_flipped


def finished(path: Path) -> list[str]:
    """The attempts of a whole record that have ended, in order, each with its curve."""
    with open_reader(path) as reader:
        done = [row.spec.id for row in reader.attempts() if row.outcome == "completed"]
        assert all(reader.evaluations(identity, 1) == CURVE for identity in done)
    return done


def wait(backups: Backups) -> str:
    """Tend the copies until the one that is being made is there."""
    told = ""
    while backups._thread is not None:
        told = told or backups.tend()
        time.sleep(0.002)
    return told


def test_a_copy_made_while_the_writer_writes_is_of_one_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread copies page by page while rows come: the copy is whole, and a prefix of the record that has
    all that was there when it began."""
    monkeypatch.setattr(of_backup, "STEP_PAGES", 1)
    monkeypatch.setattr(of_backup, "STEP_PAUSE_S", 0.005)
    with ready(path) as store:
        for number in range(20):
            run_one(store, number)
        target = backup_name(path, store.last_sequence())
        copied: list[bool] = []
        copying = threading.Thread(target=lambda: copied.append(store.backup(target, lambda: True)))
        copying.start()
        number = 20
        while copying.is_alive() and number < 40:
            run_one(store, number)
            number += 1
        copying.join()
        assert copied == [True] and number > 22
        assert [file.name for file in target.parent.iterdir()] == [target.name]
        everything = finished(path)
        kept = finished(target)
    assert everything[:20] == kept[:20] and kept == everything[: len(kept)]


def test_a_copy_that_is_given_up_leaves_nothing(path: Path) -> None:
    """Between two steps it can be told to stop."""
    with ready(path) as store:
        run_one(store, 0)
        assert not store.backup(backup_name(path, 1), lambda: False)
    assert list((path.parent / "backups").iterdir()) == []


def test_a_kill_during_a_copy_leaves_no_half_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed writer has left is no backup, and goes with the next one."""
    monkeypatch.setattr(of_backup, "STEP_PAGES", 1)
    child = os.fork()
    if child == 0:
        steps = iter(range(5))
        store = ready(path)
        run_one(store, 0)
        store.backup(backup_name(path, 1), lambda: next(steps, None) is not None or os.kill(os.getpid(), 9))  # type: ignore[func-returns-value]
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert backups(path) == [] and {file.name[0] for file in (path.parent / "backups").iterdir()} == {"."}
    with ready(path) as store:
        assert store.backup(backup_name(path, 2), lambda: True)
    assert [file.name for file in (path.parent / "backups").iterdir()] == [backup_name(path, 2).name]


def test_copies_are_made_when_there_is_news_and_few_are_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to copy, no copy; the same rows are not copied twice; the oldest goes first."""
    monkeypatch.setattr("fsearch.daemon.backups.EVERY_S", 0.0)
    names = []
    with ready(path) as store, Backups(store) as copies:
        assert copies.tend() == "" and backups(path) == []
        for number in range(KEPT + 2):
            run_one(store, number)
            copies.tend()
            names.append(backup_name(path, store.last_sequence()))
            assert wait(copies) == ""
            copies.tend()
            assert wait(copies) == "" and backups(path) == names[-KEPT:]
    with Store.open(path) as store, Backups(store) as copies:  # another daemon, no news
        copies.tend()
        assert copies._thread is None
    assert finished(names[-1]) == [f"a{number}" for number in range(KEPT + 2)]


def test_no_room_is_told_and_stops_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that would take the room that the record may need is not begun."""
    monkeypatch.setattr(disk, "KEPT_BYTES", 1 << 60)
    with ready(path) as store, Backups(store) as copies:
        run_one(store, 0)
        with pytest.raises(StoreFull, match="MiB that are free"):
            store.backup(backup_name(path, 1), lambda: True)
        assert "could not be backed up" in (copies.tend() or wait(copies))
        assert copies.tend() == ""  # once
        run_one(store, 1)
    assert backups(path) == [] and finished(path) == ["a0", "a1"]


def test_a_disk_that_fills_up_under_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real full disk below the copies: an error that says so, nothing left, and the record goes on."""
    monkeypatch.setattr(disk, "KEPT_BYTES", -(1 << 60))
    with ready(path) as store:
        run_one(store, 0)
        with mounted_disk(path.parent / "backups", "40k") as folder:
            with pytest.raises(StoreFull):
                store.backup(backup_name(path, 1), lambda: True)
            assert list(folder.iterdir()) == []
        run_one(store, 1)
        assert store.backup(backup_name(path, 2), lambda: True)


def test_the_way_back_from_damage(path: Path) -> None:
    """The last good copy is named, not a damaged newer one; its commands as they stand bring it back."""
    with ready(path) as store:
        run_one(store, 0)
        store.backup(backup_name(path, 1), lambda: True)
        run_one(store, 1)
        good = backup_name(path, store.last_sequence())
        store.backup(good, lambda: True)
    killed_while_writing(path, 30)
    worse = backup_name(path, 10**6)
    worse.write_bytes(good.read_bytes())
    page_flipped(worse)
    page_flipped(path)
    before = contents(path.parent)
    with pytest.raises(StoreCorrupt):
        Store.open(path)
    advice = going_on(path)
    assert contents(path.parent) == before and str(good) in advice
    commands = [line for line in advice.splitlines() if line.startswith("  ")]
    subprocess.run("\n".join(commands), shell=True, check=True)
    assert finished(path) == ["a0", "a1"]
    with Store.open(path) as store:
        begin(store, 2)
    assert (path.parent / "damaged-1" / path.name).read_bytes() == before["fsearch.db"]


def test_commands_hold_in_folders_with_blanks(path: Path) -> None:
    """What is shown can be pasted."""
    odd = path.parent / "my state; rm" / path.name
    with ready(odd) as store:
        run_one(store, 0)
        store.backup(backup_name(odd, 1), lambda: True)
    words = shlex.split(going_on(odd).splitlines()[-1])
    assert words == ["cp", str(backup_name(odd, 1)), str(odd)]


def test_every_command_names_the_backup(path: Path) -> None:
    """What a person sees is the refusal, the backup and the commands, with the exit code of a bad state."""
    with ready(path) as store:
        run_one(store, 0)
    for expected in ("There is no good backup", "The last good backup is"):
        whole = path.read_bytes()
        emptied(path)
        with (
            pytest.raises(UserError, match=rf"(?s)left as it is.*{expected}") as caught,
            looking(path.parent),
        ):
            pass
        assert caught.value.code == STATE
        path.write_bytes(whole)
        with Store.open(path) as store:
            store.backup(backup_name(path, 1), lambda: True)


def test_a_copy_is_a_record_of_its_own(path: Path) -> None:
    """Opened where it lies it needs no log, and SQLite finds nothing wrong in it."""
    with ready(path) as store:
        run_one(store, 0)
        store.backup(backup_name(path, 1), lambda: True)
    database = sqlite3.connect(f"{backup_name(path, 1).as_uri()}?immutable=1", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


def test_copies_may_be_written_by_their_owner_only(path: Path) -> None:
    """Modes as those of the record."""

    def modes() -> list[int]:
        os.umask(0)
        with ready(path) as store:
            run_one(store, 0)
            store.backup(backup_name(path, 1), lambda: True)
        return [place.stat().st_mode & 0o777 for place in (path.parent / "backups", backup_name(path, 1))]

    assert in_child(modes) == [0o755, 0o644]
