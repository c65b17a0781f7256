"""`fsearch run` in processes of its own: start it, watch its record, kill parts of it, read what came out.

Nothing of fsearch runs inside the process of the tests but readers of the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fsearch import tasks
from fsearch.daemon import record_path
from fsearch.plan import Plan, parse
from fsearch.search.board import Record
from fsearch.search.next_step import Standing, facts_as_recorded, standing_of
from fsearch.search.rows import Attempt
from fsearch.store import DaemonRecord, Event, Reader, StoreError, open_reader
from tests.alive import runs

T = TypeVar("T")

LIMIT_S = 240.0
"""Only a guard against hanging for ever."""

POLL_S = 0.004

COMMAND_LINE = (sys.executable, "-m", "fsearch")

_MARK = "FSEARCH_TEST_RUN"
_OF_THIS_RUN = (
    *("seconds", "energy_mj", "idle_s", "peak_memory_mib", "memory_mib"),
    *("started_at", "ended_at", "try"),
)
"""Fields of an exported attempt that may differ between two runs of a plan."""


def new_state(folder: Path, kernel_library: Path | None) -> Path:
    """A state folder in which nothing has run yet, but with the kernel built, for every device, if one is."""
    cache = folder / "state" / "cache" / "kernel"
    cache.mkdir(parents=True)
    if kernel_library is not None:
        for library in kernel_library.parent.glob("*.so"):
            shutil.copy(library, cache)
    (folder / "locks").mkdir()
    return folder / "state"


class Run:
    """`fsearch run` on one plan and one state, which may be started and killed again and again."""

    def __init__(
        self,
        state: Path,
        plan: Path,
        *options: str,
        command: Sequence[str] = COMMAND_LINE,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.state, self.plan = state, plan
        self.command = [*command, "run", str(plan), "--state", str(state), *options]
        self.environment: dict[str, str] = {
            **os.environ,
            "FSEARCH_LOCK_DIR": str(state.parent / "locks"),
            "CUDA_VISIBLE_DEVICES": "",  # training on a GPU has tests of its own
            "OMP_WAIT_POLICY": "passive",  # threads that spin would starve each other on a busy machine
            _MARK: str(state),
            **(environment or {}),
        }
        self.output = state.parent / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """The exit code."""
        assert self.process is not None
        return self.process.wait(limit_s)

    def to_the_end(self) -> None:
        """Start it if it is not running, and wait until it has finished the plan."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.wait() == 0, self.told()

    def until(self, found: Callable[[Reader], T | None]) -> T:
        """Watch the record while the run goes on, until there is what is looked for."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            assert self.process is not None and self.process.poll() is None, self.told()
            assert time.monotonic() < deadline, self.told()
            with contextlib.suppress(StoreError), open_reader(record_path(self.state)) as reader:
                while self.process.poll() is None and time.monotonic() < deadline:
                    answer = found(reader)
                    if answer is not None:
                        return answer
                    time.sleep(POLL_S)
            time.sleep(POLL_S)

    def processes(self) -> list[int]:
        """Everything that lives and descends from this run, whoever its parent is now."""
        mark = f"{_MARK}={self.state}\0".encode()
        found = []
        for pid in _pids():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if mark in Path(f"/proc/{pid}/environ").read_bytes() and runs(pid):
                    found.append(pid)
        return found

    def zygote(self) -> int | None:
        """The pid of the process that forks workers, once it is there."""
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                zygote = any(part.endswith(b".zygote") for part in command)  # and the workers below it
                if zygote and _parent(pid) == self.pid:
                    return pid
        return None

    def export(self) -> str:
        """What `fsearch export` prints."""
        command = [*COMMAND_LINE, "export", str(self.plan), "--state", str(self.state)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def exported(self) -> list[dict[str, Any]]:
        """The same, apart from what belongs to one run: times, memory, number of the try."""
        lines = map(json.loads, self.export().splitlines())
        return [{key: value for key, value in line.items() if key not in _OF_THIS_RUN} for line in lines]

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def told(self) -> str:
        """What there is to say when a test fails."""
        logs = sorted((self.state / "logs").glob("*.log"))
        parts = [self.output, *logs] if self.output.exists() else logs
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in parts)


@contextlib.contextmanager
def run_of(state: Path, plan: Path, *options: str, **more: Any) -> Iterator[Run]:
    """A run for the time of a test."""
    run = Run(state, plan, *options, **more)
    try:
        yield run
    finally:
        run.end()


# What came out


def attempts(state: Path) -> list[Attempt]:
    """All tries, in the order of recording."""
    with open_reader(record_path(state)) as reader:
        return reader.attempts()


def events(state: Path) -> list[Event]:
    with open_reader(record_path(state)) as reader:
        return reader.events(limit=1000)


def daemon_of(state: Path) -> DaemonRecord:
    with open_reader(record_path(state)) as reader:
        found = reader.daemon()
    assert found is not None
    return found


def parsed(plan: Path) -> Plan:
    return parse(plan.read_text(), tasks.schemas(), str(plan))


def standing(state: Path, plan: Path) -> Standing:
    """Where a plan stands according to the record."""
    with open_reader(record_path(state)) as reader:
        facts = facts_as_recorded(reader.facts(), reader.models(), reader.last_fingerprints())
        return standing_of(parsed(plan), facts, Record(reader.attempts()))


def exported(state: Path, plan: Path) -> list[dict[str, Any]]:
    """What a finished run of a plan has left for scripts."""
    return Run(state, plan).exported()


def numbers(state: Path) -> dict[str, dict[str, Any]]:
    """The closing try of every attempt: its outcome and all its numbers, by id."""
    return {
        row.spec.id: {
            "spec": replace(row.spec, memory_mib=None),
            "outcome": row.outcome,
            "reason": row.reason,
            "score": row.score,
            "loss": row.loss,
            "acc_pooled": row.acc_pooled,
            "screen": (row.screen_score, row.screen_loss),
            "metrics": row.metrics,
            "steps": (row.steps_done, row.tokens),
            "first_losses": row.first_losses,
            "weights": (row.early_weights_sha256, row.weights_sha256),
            "backend": row.backend,
            "fingerprint": row.fingerprint,
        }
        for row in closing(attempts(state))
    }


def verdicts(state: Path, plan: Path) -> dict[str, Any]:
    """The way of every variant through every search, to its verdict."""
    stands = standing(state, plan)
    assert stands.finished
    return {
        f"{board.search.label} {entry.variant.name}": (
            entry.exit,
            entry.reason,
            [(screened.difference, screened.decision) for screened in entry.screens],
            [pair.difference for pair in entry.pairs],
            stands.verdicts.get((index, entry.variant.name)),
        )
        for index, board in enumerate(stands.boards)
        for entry in board.variants
    }


def closing(rows: Sequence[Attempt]) -> list[Attempt]:
    """The tries with a result or a failure that is final."""
    return [row for row in rows if row.outcome_class in ("result", "configuration")]


def assert_whole(state: Path) -> None:
    """Nothing is running, nothing was done twice, nothing is missing, and the file is sound."""
    by_id: dict[str, list[Attempt]] = {}
    for row in attempts(state):
        by_id.setdefault(row.spec.id, []).append(row)
    for identity, tries in by_id.items():
        assert [row.try_number for row in tries] == list(range(1, len(tries) + 1)), identity
        closed = [row.try_number for row in closing(tries)]
        assert closed == [len(tries)], (identity, [(row.outcome, row.reason) for row in tries])
    with contextlib.closing(sqlite3.connect(record_path(state))) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert list((state / "checkpoints").iterdir()) == []


# Processes


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for other in _pids():
        children.setdefault(_parent(other), []).append(other)
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill_stopped(pid: int) -> list[int]:
    """kill -9 of a process, and the processes below it at that moment."""
    os.kill(pid, signal.SIGSTOP)  # so that it starts nothing between the look and the kill
    below = descendants(pid)
    os.kill(pid, signal.SIGKILL)
    return below


def left_after(limit_s: float, alive: Callable[[], list[int]]) -> tuple[list[int], float]:
    """What still lives after at most so long, and how long it took until nothing did."""
    began = time.monotonic()
    while True:
        left, passed_s = alive(), time.monotonic() - began
        if not left or passed_s > limit_s:
            return left, passed_s
        time.sleep(POLL_S)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
