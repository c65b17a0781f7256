"""`fsearch bench startup`: from nothing to the first optimizer step, in three ways.

A cold process imports everything; a worker is forked from a process that has; a warmed one was forked ahead
and has loaded weights and data, so that it is only told to begin. Beside them the gaps of a run: from the
last step of one attempt to the first of the next.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.text import Text

from fsearch.daemon.child import Child, start
from fsearch.daemon.devices import Device
from fsearch.daemon.programs import command
from fsearch.daemon.zygote import Zygote
from fsearch.search.board import Run
from fsearch.search.rows import Attempt
from fsearch.ui.bench_child import finish, put_now, report_file, report_of
from fsearch.ui.bench_kernel_cache import built
from fsearch.ui.bench_sides import bench_job, facts_of, heard, new_state, through_the_daemon
from fsearch.ui.bench_table import percent, seconds
from fsearch.ui.errors import FAILED, OK, UserError
from fsearch.ui.layout import console, put
from fsearch.ui.state import folder, shown

ROUNDS, QUICK_ROUNDS = 5, 1
WARMING_S = 1.0
"""Long enough for a worker to make itself ready."""

PARTS = ("start", "load", "first_step")
TARGET = 0.25  # of a cold start, for the gap between two attempts
Row = dict[str, Any]

PLAN = """\
name: short attempts of the demo's size
seed: 0
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 5.0e-3}
stages: [{name: only, steps: 20, seeds: SEEDS}]
evaluate: {every: 1000}
variants: [{name: open, gate: scalar, alpha: 2}]
tasks:
  - {task: infill, n_left: 4, n_masks: 6, batch: 32}
"""


def answer(options: argparse.Namespace) -> int:
    """Run a short plan, then start one of its attempts in each way, in turns; print and write. Gives 0."""
    state = folder(options.state)
    report = report_of("startup", options.threads)
    file = report_file(options.json, state, report)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])
    rounds, seeds = (QUICK_ROUNDS, 3) if options.quick else (ROUNDS, 8)
    report |= {"quick": options.quick, "threads": options.threads, "rounds": rounds}
    built(state, screen)
    with TemporaryDirectory(prefix="bench-", dir=state, ignore_cleanup_errors=True) as name:
        own = new_state(state, Path(name) / "run")
        plan = Path(name) / "plan.yaml"
        plan.write_text(PLAN.replace("SEEDS", str(seeds)))
        rows = list(through_the_daemon(plan, own, options.threads).trained.values())
        report["gaps"] = gaps_of(rows)
        last = rows[-1]
        job = bench_job(Run(last.spec, 1), last.fingerprint, facts_of(own), own, options.threads)
        report["ways"] = started({**job, "steps": 1}, own, rounds)
    cold_s = report["ways"]["cold"]["whole_s"]["median"]
    report["gap_to_cold"] = report["gaps"]["steps_s"]["median"] / cold_s
    put_now(screen, table(report))
    finish(screen, file, report, footnotes(report))
    return OK


def gaps_of(rows: Sequence[Attempt]) -> Row:
    """Of a run's trainings in order: idle, and with the evaluation at the end of the one before."""
    gaps = [
        (row.idle_s, row.idle_s + before.seconds["evaluate"])
        for before, row in pairwise(rows)
        if row.idle_s is not None
    ]
    idle, steps = zip(*gaps, strict=True)
    return {"attempts": len(rows), "idle_s": _several(idle), "steps_s": _several(steps)}


def started(job: dict[str, Any], state: Path, rounds: int) -> Row:
    """The three ways in turns: seconds of each part, and of the whole."""
    program = [*command("attempt"), "--kernel-cache", str(state / "cache" / "kernel")]
    cache, log = state / "cache" / "kernel", state / "logs" / "start.log"
    found: dict[str, list[dict[str, float]]] = {"cold": [], "forked": [], "warmed": []}
    began_s = time.monotonic()
    zygote = Zygote(Device(), cache, state / "logs" / "zygote.log")
    try:
        zygote.wait_ready()
        zygote_s = time.monotonic() - began_s
        for _ in range(rounds):
            found["cold"].append(_timed(lambda: start(program, job, log), None))
            found["forked"].append(_timed(lambda: zygote.fork(job, log), zygote))
            ready = zygote.fork({**job, "ahead": True}, log)
            time.sleep(WARMING_S)

            def begin(ready: Child = ready) -> Child:
                ready.begin(job)
                return ready

            found["warmed"].append(_timed(begin, zygote))
    finally:
        zygote.end()
    ways: Row = {
        way: {f"{part}_s": _several([one[part] for one in some]) for part in (*PARTS, "whole")}
        for way, some in found.items()
    }
    return {**ways, "zygote_s": zygote_s}


def _timed(begin: Callable[[], Child], zygote: Zygote | None) -> dict[str, float]:
    """Seconds of each part until a worker has made its first step; it is waited for to its end."""
    began_s = time.monotonic()
    child = begin()
    stepped_s = 0.0
    for message in heard(child, zygote):
        if not stepped_s and message.get("step") == 1:
            stepped_s = time.monotonic()
    ending = child.close()
    if ending.result is None or ending.result["outcome"] != "completed":
        raise UserError("An attempt of one step failed; see `fsearch doctor`.", FAILED)
    load_s, train_s = child.began["load"], child.began["train"]
    parts = {"start": load_s - began_s, "load": train_s - load_s, "first_step": stepped_s - train_s}
    return {**parts, "whole": stepped_s - began_s}


def _several(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "best": min(values), "most": max(values)}


def table(report: Row) -> list[Text]:
    """A line for each way, its parts with their shares; below them the gaps."""
    heads = ("start", "load", "a step", "whole", "best", "share")
    lines = [Text(f"{'to the first step':<20}" + "".join(f"{head:>10}" for head in heads), "dim")]
    cold_s = report["ways"]["cold"]["whole_s"]["median"]
    for way, title in (("cold", "a cold process"), ("forked", "forked"), ("warmed", "forked ahead")):
        of = report["ways"][way]
        cells = [seconds(of[f"{part}_s"]["median"]) for part in (*PARTS, "whole")]
        cells += [seconds(of["whole_s"]["best"]), percent(of["whole_s"]["median"] / cold_s)]
        lines.append(Text(f"{title:<20}" + "".join(f"{cell:>10}" for cell in cells)))
    lines.append(Text())
    for name, title in (("idle_s", "idle between attempts"), ("steps_s", "last step to first step")):
        gap = report["gaps"][name]
        share = percent(gap["median"] / cold_s)
        most = seconds(gap["most"])
        lines.append(
            Text(f"{title:<26}{seconds(gap['median']):>10}, at most {most}; {share} of a cold start")
        )
    return lines


def footnotes(report: Row) -> list[str]:
    """What was measured."""
    return [
        f"Medians of {report['rounds']} rounds in which the ways took turns, by the wall clock; an attempt "
        "of the demo's model. start: the interpreter and its imports, or the fork, or being told to begin. "
        "forked ahead: weights and data were loaded while nobody waited. The process that forks was itself "
        f"ready after {seconds(report['ways']['zygote_s'])}, once for a run.",
        f"The gaps are those of a run of {report['gaps']['attempts']} short attempts: idle is without, the "
        f"other with the evaluation after the last step (target: {percent(TARGET)} of a cold start at most).",
    ]
