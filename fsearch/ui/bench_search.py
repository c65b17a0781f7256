"""`fsearch bench search`: whole plans through the daemon, and beside it a process for each attempt."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.text import Text

from fsearch.ui.bench_child import finish, put_now, report_file, report_of
from fsearch.ui.bench_kernel_cache import built
from fsearch.ui.bench_sides import (
    PARTS,
    Side,
    differences,
    facts_of,
    new_state,
    through_processes,
    through_the_daemon,
)
from fsearch.ui.bench_table import percent
from fsearch.ui.errors import FAILED, OK, USAGE, UserError
from fsearch.ui.layout import console, put
from fsearch.ui.plans import read_runnable
from fsearch.ui.state import folder, shown
from fsearch.ui.words import duration

Row = dict[str, Any]

SIXTY = """\
name: sixty attempts of about 3 s
seed: 0
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 5.0e-3}
stages: [{name: only, steps: 180, seeds: 6}]
variants:
  - {name: open_1, gate: scalar, alpha: 1}
  - {name: open_2, gate: scalar, alpha: 2}
  - {name: open_3, gate: scalar, alpha: 3}
  - {name: raw_1, gate: scalar, alpha: 1, norm: false, clip: null}
  - {name: raw_2, gate: scalar, alpha: 2, norm: false, clip: null}
  - {name: raw_3, gate: scalar, alpha: 3, norm: false, clip: null}
  - {name: through_1, gate: scalar, alpha: 1, detach: false}
  - {name: through_2, gate: scalar, alpha: 2, detach: false}
  - {name: through_3, gate: scalar, alpha: 3, detach: false}
tasks:
  - {task: infill, n_left: 4, n_masks: 6, batch: 32}
"""
"""A baseline and nine variants on six seeds."""

QUICK = """\
name: two attempts that are at once over
seed: 0
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 5.0e-3}
stages:
  - {name: quick, steps: 4}
  - {name: medium, steps: 4, seeds: 3}
screen: {prune_below: 0.49}
variants: [{name: open, gate: scalar, alpha: 2}]
tasks:
  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 64, n_val: 64, batch: 16}
"""
"""A baseline, and a variant that four steps keep from being confirmed."""

_TITLES = {
    "start": "starting: interpreters, torch, first data",
    "prepare": "data, in each process",
    "probe": "probing the batch",
    "load": "loading data and weights",
    "work": "training and evaluating",
    "rest": "ends of processes, between them",
}


def answer(options: argparse.Namespace) -> int:
    """Run each plan through the sides that are asked for, print and write; gives 0.

    Raises UserError: a wrong plan, no kernel, a failure, or results that differ between the sides.
    """
    state = folder(options.state)
    report = report_of("search", options.threads)
    file = report_file(options.json, state, report)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])
    if options.plan is not None:
        read_runnable(options.plan)  # a mistake is told before anything is built
    report |= {"quick": options.quick, "against": options.against, "threads": options.threads, "rows": []}
    built(state, screen)
    with TemporaryDirectory(prefix="bench-", dir=state, ignore_cleanup_errors=True) as place:
        for name, plan_file in plan_files(options, Path(place)).items():
            row = measured(name, plan_file, state, Path(place), options)
            report["rows"].append(row)
            put_now(screen, [Text(), *lines(row)])
    finish(screen, file, report, footnotes(report))
    wrong = [row["plan"] for row in report["rows"] if row.get("differ")]
    if wrong:
        raise UserError(
            f"The sides came to other numbers: {', '.join(wrong)}. Their times mean nothing.", FAILED
        )
    return OK


def plan_files(options: argparse.Namespace, place: Path) -> dict[str, Path]:
    """What to run, by name: the plan that is asked for, else the demo and sixty short attempts."""
    given = {"quick": QUICK} if options.quick else {"sixty": SIXTY}
    if options.plan is not None:
        return {options.plan: read_runnable(options.plan).path}
    found = {} if options.quick else {"demo": read_runnable("demo").path}
    for name, text in given.items():
        found[name] = place / f"{name}.yaml"
        found[name].write_text(text)
    return found


def measured(name: str, plan_file: Path, state: Path, place: Path, options: argparse.Namespace) -> Row:
    """A plan through the daemon, then, if that is asked for, through processes."""
    own = new_state(state, place / name.replace("/", "-"))
    daemon = through_the_daemon(plan_file, own, options.threads)
    row: Row = {"plan": name, "trainings": len(daemon.trained), "daemon": figures_of(daemon)}
    idle = [one.idle_s for one in daemon.trained.values() if one.idle_s is not None]
    row["idle_s"] = {"sum": sum(idle), "most": max(idle, default=0.0)}
    if options.against == "processes":
        plan = read_runnable(str(plan_file)).plan
        if plan.checkpoint is not None:
            raise UserError(f"{name} starts from a checkpoint; processes train from scratch alone.", USAGE)
        processes = through_processes(plan, own, facts_of(own), options.threads)
        row["processes"] = figures_of(processes)
        row["differ"] = differences(daemon, processes)
        row["wall_ratio"] = daemon.wall_s / processes.wall_s
        row["one_speed_ratio"] = _per_work(daemon) / _per_work(processes)
        row["cpu_ratio"] = daemon.cpu_s / processes.cpu_s
    return row


def _per_work(side: Side) -> float:
    """Wall time for a second of training and evaluating, which both sides have the same of."""
    return side.wall_s / side.parts["work"]


def figures_of(side: Side) -> Row:
    """What the report says of a side."""
    return {
        "wall_s": side.wall_s,
        "cpu_s": side.cpu_s,
        "interpreters": side.processes,
        "parts_s": side.parts,
    }


def lines(row: Row) -> list[Text]:
    """A plan: where each side's time went, and the ratio."""
    sides = [name for name in ("daemon", "processes") if name in row]
    head = f"{row['plan']}: {row['trainings']} trainings"
    found = [Text(f"{head:<42}" + "".join(f"{name:>12}" for name in sides) + "     saved", "bold")]
    for part in PARTS:
        took = [row[name]["parts_s"][part] for name in sides]
        found.append(_line(f"  {_TITLES[part]}", took, row))
    found.append(_line("  wall time", [row[name]["wall_s"] for name in sides], row))
    found.append(_line("  CPU time", [row[name]["cpu_s"] for name in sides], row))
    counts = "".join(f"{row[name]['interpreters']:>12}" for name in sides)
    found.append(Text(f"{'  interpreters started':<42}{counts}"))
    if "wall_ratio" in row:
        same = "equal to the digit" if not row["differ"] else "that DIFFER"
        found += [
            Text(f"  {row['wall_ratio']:.3f} of the wall time, and results {same}"),
            Text(f"  {row['one_speed_ratio']:.3f} if the same work had taken both the same time", "dim"),
            Text(f"  {row['cpu_ratio']:.3f} of the CPU time", "dim"),
        ]
    return found


def _line(title: str, took_s: Sequence[float], row: Row) -> Text:
    cells = "".join(f"{duration(one):>12}" for one in took_s)
    if len(took_s) == 2:
        cells += f"{percent((took_s[1] - took_s[0]) / row['processes']['wall_s']):>10}"
    return Text(f"{title:<42}{cells}")


def footnotes(report: Row) -> list[str]:
    """What was run and how."""
    notes = [
        "daemon: `fsearch run` in a new state, from the start of its process to its end; the compiled kernel "
        "is there. Data are made beside training, so only the first search waits for them, in its start.",
    ]
    if report["against"]:
        notes.append(
            "processes: the same attempts, each a fresh interpreter that makes its data, as in the drafts: "
            "probes of 25 steps, nothing kept but the compiled kernel, no record. saved: of its wall time."
        )
    return notes
