"""The lines of a run: one an attempt, as it happens, to whoever listens."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fsearch.search.board import differences
from fsearch.search.next_step import standing_of
from fsearch.ui.progress import Lines
from fsearch.ui.state import looking
from fsearch.ui.view import Snapshot
from tests.ui.commands import ROOT
from tests.ui.record import the_plan


class Clock:
    """Moves half a second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def told(state: Path, screen: Console, most: int) -> None:
    """Tell a listener of the first attempts of a record, as a daemon would."""
    plan = the_plan()
    with looking(state) as reader:
        snapshot = Snapshot(reader, [plan])
        boards = standing_of(plan, snapshot.facts, snapshot.record).boards
        rows = reader.attempts()
    found = {identity: difference for board in boards for identity, difference in differences(board).items()}
    listener = Lines([plan], screen, Clock())
    listener.started(state, "cpu")
    for attempt in rows[:most]:
        listener.attempt_started(attempt.spec, attempt.try_number)
        if attempt.spec.role == "build":
            listener.doing(attempt.spec, "compiled 3 of 10: wkv7_cpu.cpp (generic)")
        else:
            listener.progress(attempt.spec, 1, 2, 1.5, 1000.0)
        listener.attempt_ended(attempt, found.get(attempt.spec.id))
    listener.event("warning", "something to read")
    listener.finished(0)


def test_plain_lines(whole: Path) -> None:
    """In a pipe every line stands for itself: search, stage, variant, seed, score, difference, decision."""
    file = io.StringIO()
    told(whole, Console(file=file, width=80, highlight=False), 17)
    lines = file.getvalue().splitlines()
    kept = next(line for line in lines if " raw_strong " in line)
    told_there = "[ 4] infill quick raw_strong seed 0 acc 70.1 % d_acc +57.71 pp keep 0.5 s"
    assert kept.replace("[  4]", "[ 4]").split() == told_there.split()
    assert any("prune" in line for line in lines)
    assert any("failed (data_short)" in line and "Ask for fewer" in line for line in lines)
    assert any("scalar_l3" in line and "noop" in line and "not trained" in line for line in lines)
    assert lines[-1] == "warning: something to read"
    assert "\x1b" not in file.getvalue()


def test_terminal_lines_fit(whole: Path) -> None:
    """On 80 columns no line wraps: the search is a heading instead of a column."""
    file = io.StringIO()
    screen = Console(file=file, width=80, highlight=False, force_terminal=True, color_system=None)
    told(whole, screen, 17)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").split("\n")
    assert max(map(len, plain)) <= 80
    assert "infill" in plain
    assert any(re.search(r"kernel .* compiled 3 of 10: wkv7_cpu.cpp \(generic\)", line) for line in plain)


def test_what_is_waited_for(whole: Path) -> None:
    """A terminal shows how long yet, within its width; a try that finds no network has no line of its own."""
    with looking(whole) as reader:
        ready = next(row for row in reader.attempts() if row.spec.role == "prepare")
    missed = replace(ready, outcome="network_wait", outcome_class="infrastructure", reason="no route")
    shown = {}
    for terminal in (True, False):
        file = io.StringIO()
        screen = Console(
            file=file,
            width=80,
            highlight=False,
            force_terminal=terminal,
            color_system=None,
            legacy_windows=False,
        )
        listener = Lines([the_plan()], screen, Clock())
        listener.started(whole, "cpu")
        listener.attempt_started(missed.spec, 1)
        listener.attempt_ended(missed, None)
        listener.waiting("waiting for owner/rows: no route", 39.6)
        listener.waiting(f"infill: {'its data are being prepared ' * 9}", None)
        listener.attempt_started(ready.spec, 2)
        listener.attempt_ended(ready, None)
        listener.finished(0)
        shown[terminal] = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n")
    assert re.search("waiting .* next try in 40 s", shown[True])
    assert "infill: its data are being" in shown[True]
    assert max(map(len, shown[True].split("\n"))) <= 80
    assert "network_wait" not in shown[True] + shown[False]
    assert [line.split() for line in shown[False].splitlines()] == [
        ["data", "of", ready.spec.search, "ready", "0.5", "s"]
    ]


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_what_compilers_say_is_no_markup(whole: Path) -> None:
    """Brackets in what is being done are shown as they are, whatever they would mean to the screen."""
    with looking(whole) as reader:
        spec = next(row.spec for row in reader.attempts() if row.spec.role == "build")
    file = io.StringIO()
    listener = Lines([the_plan()], Console(file=file, width=100, force_terminal=True, color_system=None))
    listener.started(whole, "cpu")
    listener.doing(spec, "compiled [/usr/bin/c++] of [bold]")
    listener.waiting("full [/disk]", None)
    listener.close()
    assert "compiled [/usr/bin/c++] of [bold]" in file.getvalue() and "full [/disk]" in file.getvalue()


def test_closed_terminal_stops_nothing(whole: Path) -> None:
    """A listener whose terminal has gone falls silent and never raises into the daemon's loop."""
    code = (
        "from pathlib import Path\n"
        "from rich.console import Console\n"
        "from tests.ui.test_progress import Gone, told\n"
        f"told(Path({str(whole)!r}), Console(file=Gone(), width=80), 9)\n"
        "import sys; sys.stderr.write('survived')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "survived"
