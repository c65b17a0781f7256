"""`fsearch run` with stand-ins for the programs that train (`tests.stub`), and the table that comes out."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.runs import (
    Run,
    assert_whole,
    attempts,
    closing,
    left_after,
    numbers,
    verdicts,
)
from tests.end_to_end.warm import Warm

GONE_S = 2.0

STUB_PROGRAMS = {"FSEARCH_PROGRAMS": "tests.stub", "PYTHONPATH": str(Path(__file__).parents[2])}
"""The environment in which stand-ins train."""


class StubRun(Run):
    """A run in a process that need not import anything."""

    def __init__(self, state: Path, plan: Path, warm: Warm, **environment: str) -> None:
        super().__init__(state, plan, environment={**STUB_PROGRAMS, **environment})
        self.warm = warm

    def start(self, **environment: str) -> None:
        arguments = self.command[self.command.index("run") :]
        self.process = self.warm.start(arguments, {**self.environment, **environment}, self.output)

    def killed_at_point(self, number: int) -> bool:
        """Run it with a fault point; whether it got there, rather than to the end of the plan."""
        self.start(FSEARCH_FAULT_POINT=str(number))
        code = self.wait()
        assert code in (0, -signal.SIGKILL), self.told()
        return code != 0

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        super().end()

    def export(self) -> str:
        file = self.state.parent / "exported"
        file.unlink(missing_ok=True)
        arguments = ["export", str(self.plan), "--state", str(self.state)]
        assert self.warm.start(arguments, self.environment, file).wait() == 0, file.read_text()
        return file.read_text()


@dataclass(frozen=True)
class Table:
    """What a finished run leaves: ids, outcomes, scores, verdicts, and the files of its state."""

    numbers: dict[str, dict[str, Any]]
    verdicts: dict[str, Any]
    export: list[dict[str, Any]]
    files: set[str]
    seconds: float = field(default=0.0, compare=False)  # that the run took, where it was measured


def table_of(run: Run) -> Table:
    """Of a run that has finished. The record is sound and every attempt in it closed once."""
    left, _ = left_after(GONE_S, run.processes)
    assert not left, run.told()
    assert_whole(run.state)
    paths = (path.relative_to(run.state) for path in run.state.rglob("*"))
    # Whoever reads the record may leave its log and index; a log of a process is there if it said something,
    # a backup if a start found something new.
    files = {
        str(path)
        for path in paths
        if path.suffix != ".log" and "-" not in path.suffix and path.parts[0] != "backups"
    }
    return Table(numbers(run.state), verdicts(run.state, run.plan), run.exported(), files)


def interrupted(state: Path) -> list[str]:
    """The pattern of every try that was not the last of its attempt."""
    tries = attempts(state)
    last = closing(tries)
    return [row.pattern for row in tries if row not in last]


def empty_logs(state: Path) -> list[str]:
    """Logs of processes that said nothing, which nobody needs."""
    with contextlib.suppress(FileNotFoundError):
        return [
            path.name for path in (state / "logs").iterdir() if "-" in path.name and not path.stat().st_size
        ]
    return []
