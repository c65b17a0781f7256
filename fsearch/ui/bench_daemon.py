"""`fsearch bench daemon`: deciding, looking, copying, in a record of 100,000 attempts and a tenth of it."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.text import Text

from fsearch.daemon import record_path
from fsearch.plan import Plan
from fsearch.search.board import Record
from fsearch.search.next_step import next_step
from fsearch.search.rows import Attempt, Facts
from fsearch.store import Store
from fsearch.store.backup import backup_name
from fsearch.store.place import check_record
from fsearch.store.selection import record_of
from fsearch.ui.bench_child import finish, put_now, report_file, report_of
from fsearch.ui.bench_record import attempts_of, the_facts, the_plan, write
from fsearch.ui.bench_table import seconds
from fsearch.ui.cli import parser, verbs
from fsearch.ui.errors import FAILED, OK, UserError
from fsearch.ui.layout import console, put
from fsearch.ui.state import folder, shown

SIZES = (10_000, 100_000)
DECISIONS = 40
REPEATS = 3
HELP_TARGET_S = 0.5

Row = dict[str, Any]

_LINES = (
    ("the next decision, median", "decision_median_s", 0.020),
    ("  of which this process computes", "decision_cpu_s", None),
    ("the next decision, slowest", "decision_slowest_s", 0.020),
    ("status: record opened to first frame", "frame_wall_s", 0.300),
    ("  of which this process computes", "frame_cpu_s", None),
    ("status --once: the whole process", "status_wall_s", 1.0),
    ("  of which it computes", "status_cpu_s", None),
    ("a daemon's start: the plan's rows", "rows_s", None),
    ("a daemon's start: the check for damage", "check_s", None),
    ("a backup, in its own thread", "backup_s", None),
)


def answer(options: argparse.Namespace) -> int:
    """Make both records in a temporary folder of the state, measure, print and write; gives 0."""
    state = folder(options.state)
    report = report_of("daemon", 1)
    file = report_file(options.json, state, report)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])
    plan = the_plan()
    facts = the_facts(plan)
    began_s = time.perf_counter()
    rows = attempts_of(plan, facts)
    report["plan_attempts"] = len(rows)
    report["all_decisions_mean_s"] = (time.perf_counter() - began_s) / len(rows)
    report["help_wall_s"] = {" ".join(verb) or "fsearch": _help(verb) for verb in verbs(parser())}
    report["rows"] = []
    for attempts in SIZES:
        with TemporaryDirectory(prefix="bench-", dir=state) as place:
            path = record_path(Path(place))
            write(path, plan, facts, rows, attempts)
            report["rows"].append(measured(path, plan, facts, rows, attempts))
    put_now(screen, table(report))
    finish(screen, file, report, footnotes(report))
    return OK


def measured(path: Path, plan: Plan, facts: Facts, rows: Sequence[Attempt], attempts: int) -> Row:
    """The figures of one record."""
    frames = [_frame(path.parent) for _ in range(REPEATS)]
    whole = [_status(path.parent) for _ in range(REPEATS)]
    row: Row = {"attempts": attempts, "record_mib": path.stat().st_size / 2**20}
    row["check_s"] = _timed(lambda: check_record(path))
    with Store.open(path) as store:
        began_s = time.perf_counter()
        record = record_of([plan], store, {})
        row["rows_s"] = time.perf_counter() - began_s
        decisions = _decisions(plan, facts, record, rows)
        copy = backup_name(path, 1)
        row["backup_s"] = _timed(lambda: store.backup(copy, lambda: True))
    return row | {
        "decision_median_s": statistics.median(wall_s for wall_s, _ in decisions),
        "decision_cpu_s": statistics.median(cpu_s for _, cpu_s in decisions),
        "decision_slowest_s": max(wall_s for wall_s, _ in decisions),
        "frame_wall_s": statistics.median(frame["wall_s"] for frame in frames),
        "frame_cpu_s": statistics.median(frame["cpu_s"] for frame in frames),
        "status_wall_s": statistics.median(wall_s for wall_s, _ in whole),
        "status_cpu_s": statistics.median(cpu_s for _, cpu_s in whole),
    }


def _decisions(plan: Plan, facts: Facts, known: Record, rows: Sequence[Attempt]) -> list[tuple[float, float]]:
    """How long the plan's last decisions take, each after the row of the attempt before it: wall, CPU."""
    every = [known.all_tries(row.spec.id)[0] for row in rows]
    earlier = {row.spec.id: [row] for row in every[:-DECISIONS]}
    record = Record((), lambda identity: earlier.get(identity, []), outlines=True)  # as the daemon's
    next_step(plan, facts, record, 0.0)
    found = []
    for row in every[-DECISIONS:-1]:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        record.add(row)
        next_step(plan, facts, record, 0.0)
        found.append((time.perf_counter() - began_s, time.process_time() - cpu_s))
    return found


def _frame(state: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "fsearch.ui.bench_frame", str(state)], capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"The status could not be drawn: {done.stderr.strip()}", FAILED)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _help(verb: Sequence[str]) -> float:
    """Seconds of the whole process, the median of REPEATS."""
    command = [sys.executable, "-m", "fsearch", *verb, "--help"]
    took_s = (
        _timed(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(REPEATS)
    )
    return statistics.median(took_s)


def _status(state: Path) -> tuple[float, float]:
    """Seconds on the wall and of the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "fsearch", "status", "--once", "--state", str(state)]
    wall_s = _timed(lambda: subprocess.run(command, capture_output=True, check=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _timed(action: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def table(report: Row) -> list[Text]:
    """What was measured, a column for each size."""
    rows = report["rows"]
    sizes = "".join(f"{row['attempts']:>12,}" for row in rows)
    lines = [Text(f"{'attempts in the record':<40}{sizes}{'growth':>9}{'target':>9}", "dim")]
    for title, name, target in _LINES:
        cells = "".join(f"{seconds(row[name]):>12}" for row in rows)
        growth = rows[-1][name] / rows[0][name]
        wanted = "" if target is None else seconds(target)
        lines.append(Text(f"{title:<40}{cells}{growth:>8.1f}x{wanted:>9}"))
    sizes = "".join(f"{row['record_mib']:>8.0f} MiB" for row in rows)
    return [*lines, Text(f"{'the record':<40}{sizes}")]


def footnotes(report: Row) -> list[str]:
    """What was measured on what."""
    mean = seconds(report["all_decisions_mean_s"])
    slowest_s, verb = max((wall_s, verb) for verb, wall_s in report["help_wall_s"].items())
    return [
        f"The plan in question has {report['plan_attempts']} attempts in twenty searches, the others have "
        f"100 each. Its last {DECISIONS - 1} decisions were timed, each with the row before it; over the "
        f"whole plan one took {mean} on average. A status is the median of {REPEATS}, each in a new process.",
        f"The help of {len(report['help_wall_s'])} verbs and subjects was printed; the slowest, that of "
        f"{verb}, took {seconds(slowest_s)} (target {seconds(HELP_TARGET_S)}).",
    ]
