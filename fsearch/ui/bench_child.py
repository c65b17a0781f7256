"""A measurement in a child process, which dies with this one: its messages, its end, and its report."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.text import Text

from fsearch import __version__
from fsearch.daemon.child import Child, spawn
from fsearch.daemon.fingerprint import environment
from fsearch.system.files import write_atomic
from fsearch.system.messages import Message
from fsearch.ui.errors import FAILED, STATE, USAGE, UserError
from fsearch.ui.layout import paragraph, put
from fsearch.ui.state import shown

SCHEMA = 1


def report_of(subject: str, threads: int) -> dict[str, Any]:
    """The head of a report: what every measurement says of itself and of the machine."""
    return {
        "schema": SCHEMA,
        "bench": subject,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fsearch": __version__,
        "load_1min_before": os.getloadavg()[0],
        "environment": environment("cpu", threads),
    }


def report_file(asked: str | None, state: Path, report: dict[str, Any]) -> Path:
    """Where the JSON goes, made sure of before minutes are spent. Makes the state's folders."""
    try:
        for name in ("logs", "cache", "bench"):
            (state / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sentence = f"The state folder {shown(state)} cannot be made ({error.strerror}). Give another --state."
        raise UserError(sentence, STATE) from error
    if asked is None:
        began = datetime.fromisoformat(report["date"])
        return state / "bench" / f"{report['bench']}-{began:%Y%m%d-%H%M%S}.json"
    file = Path(asked).absolute()
    if file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
        why = "is a folder" if file.is_dir() else "lies in no folder that may be written"
        raise UserError(f"--json {asked} {why}. Give the name of a file, in a folder that is there.", USAGE)
    return file


def finish(screen: Console, file: Path, report: dict[str, Any], notes: Sequence[str]) -> None:
    """Print the notes on a table, and whether the machine was quiet; write the report and say where it is.

    Raises UserError if it cannot be written.
    """
    if report["load_1min_before"] > 0.5:
        load = f"{report['load_1min_before']:.1f}"
        notes = [*notes, f"The machine was not quiet: its load was {load} before this began."]
    width = screen.width
    lines = [line for note in notes for line in paragraph(note, width, indent=0, style="dim")]
    put(screen, [Text(), *lines, Text()])
    try:
        write_atomic(file, (json.dumps(report, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"{shown(file)} could not be written: {error.strerror}.", FAILED) from error
    put(screen, paragraph(f"Written to {shown(file)}", width, indent=0))


def measure(
    module: str,
    job: dict[str, Any],
    state: Path,
    screen: Console,
    take: Callable[[Message], None],
    doing: Callable[[Message], str] = lambda message: str(message["doing"]),
) -> None:
    """Run `job` in `python -m fsearch.train.MODULE` to its end, and let `take` have what it finds meanwhile.

    `doing` says in words what a progress message means. Raises UserError unless all the work was done.
    """
    log = state / "logs" / f"{module.replace('_', '-')}.log"
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    child = spawn(module, job, log)
    try:
        _listen(child, screen, take, doing)
        _refuse_failure(child, log)
    except BaseException:
        child.kill()
        raise


def put_now(screen: Console, lines: list[Text]) -> None:
    """Print at once, also into a pipe."""
    put(screen, lines)
    screen.file.flush()


def _listen(
    child: Child, screen: Console, take: Callable[[Message], None], doing: Callable[[Message], str]
) -> None:
    with Progress(
        TextColumn("  {task.description}", markup=False),
        console=screen,
        auto_refresh=False,
        transient=True,
        disable=not screen.is_terminal,
    ) as bar:
        line = bar.add_task("starting")
        while not child.reader.closed:
            select.select(child.open, [], [])
            for message in child.read():
                if message["type"] == "progress":
                    bar.update(line, description=doing(message))
                    bar.refresh()
                else:
                    take(message)


def _refuse_failure(child: Child, log: Path) -> None:
    """Wait for the child's end. Raises UserError unless it has done all its work."""
    while not child.ended:
        time.sleep(0.01)
    ending = child.close()
    if ending.error:
        what = f"{ending.error['exception']}: {ending.error['message']}"
        raise UserError(f"The measurement failed: {what}. All of it is in {shown(log)}.", FAILED)
    if ending.result is None:
        how = f"signal {ending.signal}" if ending.signal else f"exit code {ending.exit_code}"
        raise UserError(f"The measurement broke off ({how}). See {shown(log)}.", FAILED)
    if ending.result["outcome"] == "refused":
        raise UserError(ending.result["reason"], USAGE)
    if ending.result["outcome"] != "completed":
        reason = ending.result["reason"]
        raise UserError(f"{reason[:1].upper()}{reason[1:]}. The log is {shown(log)}.", FAILED)
