"""The figures of a run of the kit that have a target or are asked for first, each beside its target.

Speeds are recorded and never asserted: a target that is missed fails nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fsearch.daemon import record_path
from fsearch.plan import BASELINE
from fsearch.store import open_reader
from fsearch.ui.bench_startup import TARGET as GAP_TARGET
from fsearch.ui.bench_step import VARIANTS
from fsearch.ui.bench_table import percent, seconds

SEEDED_TARGET = {True: 1.05, False: 1.10}
"""Of a step with Future-Seed to one without, at most; on a GPU, on a CPU."""

FLA_TARGET = 1.3
"""Of a step of flash-linear-attention's model to one of ours, at least."""

BUSY_TARGET, LONG_S = 0.95, 60.0
"""Of a search's time the share in which the device works, over attempts of so many seconds and more."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """How a search used its device, from the first work to the end of the last."""

    wall_s: float
    idle_s: tuple[float, ...]  # before each attempt but the first
    shortest_s: float  # the training and evaluating of the shortest attempt that is no probe

    @property
    def busy(self) -> float:
        """The share of the time in which an attempt trained, evaluated or probed."""
        return 1 - sum(self.idle_s) / self.wall_s


def on_the_device(rows: Sequence[Row]) -> list[Row]:
    """The attempts that a device was used for, of those of an export."""
    return [
        row
        for row in rows
        if row["role"] in ("probe", "screen", "confirm") and (row["seconds"] or row["outcome"] == "oom")
    ]


def work_of(rows: Sequence[Row]) -> Work | None:
    """By the rows of an export; None where fewer than two attempts used the device.

    Nothing is idle before the first one: data, kernel and model are made ready before it.
    """
    used = on_the_device(rows)
    trained = [sum(_worked(row)) for row in used if row["role"] != "probe"]
    if len(used) < 2 or not trained:
        return None
    began = min(_moment(row["started_at"]) + row["seconds"].get("load", 0.0) for row in used)
    ended = max(
        _moment(row["started_at"]) + sum(row["seconds"].values())
        if row["seconds"]
        else _moment(row["ended_at"])
        for row in used
    )
    idle_s = tuple(row["idle_s"] for row in used if row["idle_s"] is not None)
    return Work(ended - began, idle_s, min(trained))


def kernels_ran(state: Path, rows: Sequence[Row]) -> float | None:
    """The mean share of time in which a kernel ran while a training had the device, by the readings that the
    record has of each second; None where there are none.
    """
    trained = [row for row in on_the_device(rows) if row["role"] != "probe"]
    if not trained:
        return None
    with open_reader(record_path(state)) as reader:
        samples = [sample for row in trained for sample in reader.telemetry(row["id"], row["try"])]
    ran = [sample.utilisation for sample in samples if sample.utilisation is not None]
    return statistics.fmean(ran) if ran else None


def _worked(row: Row) -> list[float]:
    return [took for phase, took in row["seconds"].items() if phase != "load"]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def figure_lines(
    reports: dict[str, Row], searches: dict[str, list[Row]], ran: dict[str, float | None], gpu: bool
) -> list[str]:
    """A table of what the parts have found: by part their reports, exported rows and `kernels_ran`."""
    found: list[tuple[str, ...]] = []
    for name in ("step", "fla"):
        if name in reports:
            found += _steps(reports[name], name, gpu)
    if startup := reports.get("startup"):
        limit = f"at most {percent(GAP_TARGET)}"
        share = startup["gap_to_cold"]
        gap = seconds(startup["gaps"]["steps_s"]["median"])
        title = "gap between two attempts on the CPU, of a cold start"
        found.append((title, f"{percent(share)} ({gap})", limit, _met(share <= GAP_TARGET)))
    for name, rows in searches.items():
        found += _searched(name, rows, ran[name])
    head = ["| figure | found | target | |", "|---|---:|---|---|"]
    return head + [f"| {' | '.join(one)} |" for one in found]


def _steps(report: Row, part: str, gpu: bool) -> list[tuple[str, ...]]:
    """Of each precision: how fast the baseline is, what Future-Seed costs, how slow others are."""
    found: list[tuple[str, ...]] = []
    made = [row for row in report["rows"] if not row["left_out"]]
    for precision in dict.fromkeys(row["precision"] for row in made):
        of = {row["contender"]: row for row in made if row["precision"] == precision}
        if part == "step" and (base := of.get(BASELINE)):
            size = f"{precision}, {base['batch']} x {base['tokens']}"
            mfu = "no stated peak" if base["mfu"] is None else f"MFU {percent(base['mfu'])}"
            found.append((f"tokens/s of `{BASELINE}`, {size}", f"{base['tokens_per_s']:,.0f}, {mfu}", "", ""))
        seeded = [of[name]["ratio"] for name in VARIANTS if name in of]
        if part == "step" and seeded:
            ratio, limit = statistics.median(seeded), SEEDED_TARGET[gpu]
            title = f"a step with Future-Seed to one without, {precision}"
            found.append((title, f"{ratio:.3f}", f"at most {limit:.2f}", _met(ratio <= limit)))
        if plain := of.get("plain"):
            found.append((f"a plain step to ours, {precision}", f"{plain['ratio']:.2f}", "", ""))
        if fla := of.get("fla"):
            title = f"a step of flash-linear-attention {report['fla']} to ours, {precision}"
            met = _met(fla["ratio"] >= FLA_TARGET)
            found.append((title, f"{fla['ratio']:.2f}", f"at least {FLA_TARGET}", met))
    return found


def _searched(part: str, rows: Sequence[Row], ran: float | None) -> list[tuple[str, ...]]:
    """Of a search: the share of time in which the device worked, the gaps, and the largest batch."""
    work = work_of(rows)
    if work is None:
        return []
    met = _met(work.busy > BUSY_TARGET) if work.shortest_s >= LONG_S else "attempts too short"
    target = f"over {percent(BUSY_TARGET)}, attempts of {LONG_S:.0f} s and more"
    attempts = f"shortest training {seconds(work.shortest_s)}"
    found = [(f"{part}: the device busy", f"{100 * work.busy:.1f} %, {attempts}", target, met)]
    gaps = f"{seconds(statistics.median(work.idle_s))}, at most {seconds(max(work.idle_s))}"
    found.append((f"{part}: idle between two attempts, median", gaps, "", ""))
    if ran is not None:
        found.append((f"{part}: a kernel ran while a training had the device", percent(ran), "", ""))
    if part == "busy":
        batches = {row["micro_batch"] for row in on_the_device(rows) if row["role"] != "probe"}
        found.append(("the largest batch that fits", f"{max(batches)} examples", "", ""))
    return found


def _met(yes: bool) -> str:
    return "met" if yes else "**missed**"
