"""SIGKILL of the writer at any moment: every acknowledged row is there, whole, once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from fsearch.store import Store

from .store_samples import CURVE, RESULT, begin, ready

ROUNDS = 20


def write_on(path: Path, acknowledge: int) -> None:
    """Write attempts for ever, from where the record ends; say each transition after its commit."""
    store = ready(path)
    store.interrupt_unfinished("killed")
    number = len(store.attempts())
    while True:
        begin(store, number)
        os.write(acknowledge, f"begin {number}\n".encode())
        store.add_evaluations(f"a{number}", 1, CURVE)
        os.write(acknowledge, f"curve {number}\n".encode())
        store.finish(f"a{number}", 1, "completed", "result", **RESULT)
        os.write(acknowledge, f"finish {number}\n".encode())
        number += 1


def kill_one(path: Path, moment: random.Random) -> list[str]:
    """Kill a writer after some acknowledgements and a little more; what it had acknowledged."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        write_on(path, write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        heard = [pipe.readline() for _ in range(moment.randint(1, 8))]
        time.sleep(moment.uniform(0, 0.008))
        os.kill(child, signal.SIGKILL)
        heard += pipe.readlines()
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    return [line.strip() for line in heard if line.endswith("\n")]


def refuse_damage(path: Path) -> None:
    """Look at a copy with SQLite alone, so that the next writer meets what the kill left."""
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


def test_no_acknowledged_row_is_lost(path: Path, tmp_path: Path) -> None:
    """Twenty kills at random moments, each followed by the next writer going on."""
    moment = random.Random(20)
    acknowledged: list[str] = []
    for _ in range(ROUNDS):
        acknowledged += kill_one(path, moment)
        refuse_damage(shutil.copytree(path.parent, tmp_path / "copy") / path.name)
        shutil.rmtree(tmp_path / "copy")
    with Store.open(path) as store:
        attempts = {attempt.spec.id: attempt for attempt in store.attempts()}
        assert len(attempts) == len(store.attempts())  # none twice
        assert list(attempts) == [f"a{number}" for number in range(len(attempts))]  # none missing, in order
        for line in acknowledged:
            what, number = line.split()
            attempt = attempts[f"a{number}"]
            if what == "curve":
                assert store.evaluations(attempt.spec.id, 1) == CURVE
            if what == "finish":
                assert {name: getattr(attempt, name) for name in RESULT} == RESULT
        for attempt in attempts.values():
            if attempt.outcome == "completed":  # details come first, so what ended has them
                assert store.evaluations(attempt.spec.id, 1) == CURVE
        unended = [attempt for attempt in attempts.values() if attempt.outcome != "completed"]
        assert len(unended) <= ROUNDS and len(acknowledged) >= ROUNDS


def test_a_copy_of_the_files_at_any_instant_is_a_prefix(path: Path, tmp_path: Path) -> None:
    """As after a power loss: database and log as they lay at some instant, whatever had reached them, open
    to a consistent beginning of the history, never shorter than what was acknowledged before the copy."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        write_on(path, write_end)
    os.close(write_end)
    moment = random.Random(7)
    with os.fdopen(read_end) as pipe:
        pipe.readline()
        for copy in range(12):
            acknowledged = [pipe.readline() for _ in range(moment.randint(1, 12))][-1]
            place = tmp_path / str(copy) / path.name
            place.parent.mkdir()
            os.kill(child, signal.SIGSTOP)  # between any two instructions, a commit half written or not
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{path}{suffix}", f"{place}{suffix}")
            os.kill(child, signal.SIGCONT)
            log = Path(f"{place}-wal")
            if copy % 2:  # the end of the log had not reached the disk
                os.truncate(log, max(0, log.stat().st_size - moment.randint(0, 20_000)))
            with Store.open(place) as store:
                rows = store.attempts()
                assert [row.spec.id for row in rows] == [f"a{number}" for number in range(len(rows))]
                assert [row.outcome for row in rows[:-1]] == ["completed"] * (len(rows) - 1)
                for row in rows:
                    if row.outcome == "completed":
                        assert store.evaluations(row.spec.id, 1) == CURVE
                        assert {name: getattr(row, name) for name in RESULT} == RESULT
                if copy % 2 == 0:
                    assert len(rows) > int(acknowledged.split()[1])
            refuse_damage(place)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_transition_that_was_committed_but_not_heard_is_made_again(path: Path) -> None:
    """The answer of a commit can be lost to a kill; the same call by the next process changes nothing."""
    child = os.fork()
    if child == 0:
        store = ready(path)
        begin(store, 0)
        store.finish("a0", 1, "completed", "result", **RESULT)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with ready(path) as store:
        before = store.attempts()
        begin(store, 0)
        store.finish("a0", 1, "completed", "result", **RESULT)
        assert store.attempts() == before and before[0].outcome == "completed"


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1])
def test_a_kill_during_the_creation_leaves_no_half_record(path: Path, delay_s: float) -> None:
    """Killed while the first record is made, the next start makes it whole; nothing temporary stays."""
    child = os.fork()
    if child == 0:
        Store.open(path)
        time.sleep(60)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not path.exists() or path.stat().st_size > 0
    with ready(path) as store:
        assert len(store.plans()) == 1
    assert [file.name for file in path.parent.iterdir()] == ["fsearch.db"]
