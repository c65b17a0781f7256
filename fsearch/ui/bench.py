"""`fsearch bench kernel`: how fast the WKV7-FS operator is here, and how near the machine's limit.

A child process does the measuring, and dies with this one; here its rows become lines and a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import time
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
from fsearch.ui.bench_table import footnotes, heading, shape_lines, shape_name
from fsearch.ui.errors import FAILED, OK, STATE, USAGE, UserError
from fsearch.ui.layout import console, paragraph, put
from fsearch.ui.state import folder, shown
from fsearch.ui.words import names

SCHEMA = 1


def answer(options: argparse.Namespace) -> int:
    """Measure, print and write; gives 0. Without a subject, print the help.

    Raises UserError: wrong arguments, no kernel, a failure, or a wrong result among those measured.
    """
    if options.subject is None:
        options.show_help()
        return OK
    began = datetime.now(UTC)
    state = folder(options.state)
    file = _file(options.json, state, began)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "bench": "kernel",
        "date": began.isoformat(timespec="seconds"),
        "fsearch": __version__,
        "quick": options.quick,
        "load_1min_before": os.getloadavg()[0],
        "environment": environment("cpu", options.threads),
    }
    cache = state / "cache" / "kernel"
    job = {"device": options.device, "threads": options.threads, "quick": options.quick, "cache": str(cache)}
    log = state / "logs" / "bench-kernel.log"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    child = spawn("bench_kernel", job, log)
    try:
        _listen(child, screen, report)
        _refuse_failure(child, log)
    except BaseException:
        child.kill()
        raise
    put(screen, [Text(), *footnotes(report, screen.width), Text()])
    _write(file, report)
    put(screen, paragraph(f"Written to {shown(file)}", screen.width, indent=0))
    refuse_wrong(report["rows"])
    return OK


def refuse_wrong(rows: list[dict[str, Any]]) -> None:
    """Raise UserError if a result was wrong."""
    wrong = list(dict.fromkeys(row["contender"] for row in rows if row.get("wrong")))
    if wrong:
        raise UserError(f"WRONG results from {names(wrong)}, see above: their times mean nothing.", FAILED)


def _file(asked: str | None, state: Path, began: datetime) -> Path:
    """Where the JSON goes, made sure of before minutes are spent. Makes the state's folders."""
    try:
        for name in ("logs", "cache", "bench"):
            (state / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sentence = f"The state folder {shown(state)} cannot be made ({error.strerror}). Give another --state."
        raise UserError(sentence, STATE) from error
    if asked is None:
        return state / "bench" / f"kernel-{began:%Y%m%d-%H%M%S}.json"
    file = Path(asked).absolute()
    if file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
        why = "is a folder" if file.is_dir() else "lies in no folder that may be written"
        raise UserError(f"--json {asked} {why}. Give the name of a file, in a folder that is there.", USAGE)
    return file


def _write(file: Path, report: dict[str, Any]) -> None:
    try:
        write_atomic(file, (json.dumps(report, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"{shown(file)} could not be written: {error.strerror}.", FAILED) from error


def _listen(child: Child, screen: Console, report: dict[str, Any]) -> None:
    """Print what the child finds while it finds it, and add it to the report: the setting, and all rows."""
    with Progress(
        TextColumn("  {task.description}"),
        console=screen,
        auto_refresh=False,
        transient=True,
        disable=not screen.is_terminal,
    ) as bar:
        line = bar.add_task("starting")
        while not child.reader.closed:
            select.select([child.reader], [], [])
            for message in child.read():
                if message["type"] == "setting":
                    report.update(message["setting"], rows=[])
                    _put(screen, heading(report, screen.width))
                elif message["type"] == "shape":
                    report["rows"] += message["rows"]
                    _put(screen, [Text(), *shape_lines(message["rows"], screen.width)])
                elif message["type"] == "progress":
                    bar.update(line, description=_doing(message))
                    bar.refresh()


def _put(screen: Console, lines: list[Text]) -> None:
    """Print at once, also into a pipe."""
    put(screen, lines)
    screen.file.flush()


def _doing(message: dict[str, Any]) -> str:
    if "shape" not in message:
        return str(message["doing"])
    return f"shape {message['number']} of {message['of']}, {shape_name(message['shape'])}: {message['doing']}"


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
    if ending.result["outcome"] == "no_device":
        raise UserError(ending.result["reason"], USAGE)
    if ending.result["outcome"] != "completed":
        reason = ending.result["reason"]
        raise UserError(f"{reason[:1].upper()}{reason[1:]}. The log is {shown(log)}.", FAILED)
