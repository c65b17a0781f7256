"""What run_all.sh has found, as summary.md and summary.json: python -m tests.gpu.summary FOLDER DEVICE

An exit code of 0 is not enough for "passed": tests that were all skipped are skipped, and a search must have
run out of memory on the way, reached its last stage and given verdicts. Exits with 1 unless all was shown.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fsearch.ui.bench_table import percent, seconds, shape_name, size
from tests.gpu.figures import figure_lines, kernels_ran

PARTS = ("machine", "build", "tests", "memcheck", "racecheck", "tune", "kernel", "step")
PARTS += ("fla_tests", "fla", "startup", "compare", "daemon", "search", "busy")
NOT_ASKED = "not asked for"
OPTIONAL = ("fla_tests", "fla")
"""What may be skipped on a GPU too: it needs what others make."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """How a part ended: "passed", "failed", "timed out" or "skipped"."""

    name: str
    outcome: str
    exit_code: int | None
    seconds: int
    limit_s: int
    why: str


def parts_of(folder: Path) -> list[Part]:
    """Every part as the shell saw it; one that left no line has failed."""
    found = {}
    for line in (folder / "parts.tsv").read_text().splitlines():
        name, outcome, code, taken, limit, why = line.split("\t")
        found[name] = Part(name, outcome, int(code) if code else None, int(taken), int(limit), why)
    missing = "it left no outcome"
    return [found.get(name, Part(name, "failed", None, 0, 0, missing)) for name in PARTS]


def judged(part: Part, folder: Path) -> Part:
    """The part with what its exit code does not say."""
    if part.outcome == "skipped":
        return part
    if part.name == "tests":
        counts = test_counts(folder / "tests.xml")
        if counts is None:
            return replace(part, outcome="failed", why="pytest left no results")
        why = f"{counts['tests']} tests, {counts['failed']} failed, {counts['skipped']} skipped"
        could = counts["tests"] > counts["skipped"]
        return replace(
            part, outcome=part.outcome if could or part.outcome != "passed" else "skipped", why=why
        )
    if part.outcome != "passed":
        return replace(part, why=part.why or last_line(folder / "logs" / f"{part.name}.log"))
    faults = {"search": search_fault, "busy": busy_fault}
    if part.name in faults and (fault := faults[part.name](json_lines(folder / f"{part.name}.jsonl"))):
        return replace(part, outcome="failed", why=fault)
    return part


def test_counts(file: Path) -> dict[str, int] | None:
    """Of a JUnit file: tests, failed, skipped; None without one."""
    try:
        suites = list(ElementTree.parse(file).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return None

    def total(*names: str) -> int:
        return sum(int(suite.get(name, 0)) for suite in suites for name in names)

    return {"tests": total("tests"), "failed": total("failures", "errors"), "skipped": total("skipped")}


def search_fault(rows: list[Row]) -> str | None:
    """Why a search that ended has not shown what it is for."""
    ran_out = any(row["role"] == "probe" and row["outcome"] == "oom" for row in rows)
    unseen = None if ran_out else "no attempt ran out of memory, so what follows from that was not seen"
    return failed_training(rows) or unseen or no_verdict(rows)


def busy_fault(rows: list[Row]) -> str | None:
    """The same of one that need not run out of memory."""
    return failed_training(rows) or no_verdict(rows)


def failed_training(rows: list[Row]) -> str | None:
    """Which training has not come to its end, if one has not."""
    closed = {"completed", "noop", "stopped_early"}
    for row in rows:
        if row["role"] in ("screen", "confirm") and row["outcome"] not in closed:
            return f"{row['variant']} ended as {row['outcome']}: {row['reason']}"
    return None


def no_verdict(rows: list[Row]) -> str | None:
    """What is missing for a verdict, if there is none."""
    if not any(row["role"] == "confirm" and row["outcome"] == "completed" for row in rows):
        return "no variant was confirmed"
    return None if any(row["verdict"] for row in rows) else "there is no verdict"


def json_lines(file: Path) -> list[Row]:
    """The objects of a file, one a line; none without the file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def last_line(file: Path) -> str:
    """What a log ends with."""
    lines = file.read_text(errors="replace").strip().splitlines() if file.is_file() else []
    return lines[-1].strip() if lines else ""


def report_of(folder: Path, name: str) -> Row | None:
    """What a part has measured, if it came to that."""
    file = folder / f"{name}.json"
    found: Row | None = json.loads(file.read_text()) if file.is_file() else None
    return found


def kernel_lines(report: Row) -> list[str]:
    """The contenders of every shape, and how exact they were."""
    limits = report["limits"]
    lines = [
        f"Kernel `{report['kernel']}`, {report['dtype']}; the machine copies "
        f"{limits['copy_bytes_per_s'] / 1e9:.3g} GB/s and multiplies matrices at "
        f"{limits['matmul_flop_per_s'] / 1e12:.3g} TFLOP/s. A ratio is a time over that of the kernel which "
        "a training takes, the floor what bytes and operations allow at those rates, a capture what it and "
        "its gradient cost.",
        "",
        "| shape | contender | forward | forward + backward | ratio | of the floor | capture | peak memory |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        title = f"| {shape_name(row)} | {row['contender']} |"
        if row["left_out"]:
            lines.append(f"{title} left out: {row['left_out']} | | | | | |")
            continue
        both = row["forward_backward"]
        cells = (
            seconds(row["forward"]["best_s"]),
            seconds(both["best_s"]) + (" WRONG" if row["wrong"] else ""),
            _times(both["ratio_to_kernel"]),
            percent(both["share_of_floor"]),
            _times(both["capture_ratio"]),
            size(both["peak_memory_bytes"]),
        )
        lines.append(f"{title} {' | '.join(cells)} |")
    worst: dict[str, dict[str, float]] = {}
    for row in report["rows"]:
        for name, error in (row.get("errors") or {}).items():
            of = worst.setdefault(row["contender"], {})
            of[name] = max(of.get(name, 0.0), math.inf if error is None else error)
    names = list(next(iter(worst.values()), {}))
    lines += ["", "Largest relative errors against float64, over all shapes:", ""]
    lines += [f"| | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    lines += [f"| {who} | {' | '.join(f'{of[name]:.1e}' for name in names)} |" for who, of in worst.items()]
    return lines


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}x"


def tuning_lines(report: Row) -> list[str]:
    """Which kernel won where."""
    tuning = report["tuning"] or {"rows": [], "name": None}
    found: dict[str, dict[str, float]] = {}
    for row in tuning["rows"]:
        if not row["left_out"]:
            found.setdefault(shape_name(row), {})[row["contender"]] = row["forward_backward"]["median_s"]
    lines = [
        f"From then on chosen as `{tuning['name']}`.",
        "",
        "| shape | v1 | v2 | v1 / v2 |",
        "|---|---:|---:|---:|",
    ]
    for shape, times in found.items():
        if len(times) == 2:
            v1, v2 = times["cuda1"], times["cuda2"]
            lines.append(f"| {shape} | {seconds(v1)} | {seconds(v2)} | {v1 / v2:.2f} |")
    return lines


def step_lines(report: Row) -> list[str]:
    """Each contender's figures in each precision."""
    shape = report["shape"]
    lines = [
        f"{report['parameters'] / 1e6:.3g} M parameters, {shape['batch']} x {shape['tokens']} tokens a step "
        f"in one micro-batch, kernel `{report['kernel']}`.",
        "",
        "| precision | contender | a step | ratio | tokens/s | TFLOP/s | MFU | peak memory |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        if row["left_out"]:
            lines.append(
                f"| {row['precision']} | {row['contender']} | left out: {row['left_out']} | | | | | |"
            )
            continue
        mfu = "no stated peak" if row["mfu"] is None else percent(row["mfu"])
        lines.append(
            f"| {row['precision']} | {row['contender']} | {seconds(row['step_s']['median'])} | "
            f"{row['ratio']:.2f} | {row['tokens_per_s']:,.0f} | "
            f"{row['flop_per_s'] / 1e12:.3g} | {mfu} | {size(round(row['peak_memory_mib'] * 2**20))} |"
        )
    return lines


def startup_lines(report: Row) -> list[str]:
    """From nothing to the first step in each way, and the gaps of a run."""
    lines = ["| to the first step, on the CPU | median | best |", "|---|---:|---:|"]
    ways = {"cold": "a cold process", "forked": "forked", "warmed": "forked ahead"}
    for way, title in ways.items():
        took = report["ways"][way]["whole_s"]
        lines.append(f"| {title} | {seconds(took['median'])} | {seconds(took['best'])} |")
    for name, title in (("idle_s", "idle between two attempts"), ("steps_s", "last step to first step")):
        lines.append(f"| {title}, median and most | {' | '.join(_median_and_most(report['gaps'][name]))} |")
    return lines


def _median_and_most(several: dict[str, float]) -> tuple[str, str]:
    return seconds(several["median"]), seconds(several["most"])


def compare_lines(report: Row) -> list[str]:
    """Each plan through the daemon and through a process for each attempt."""
    lines = ["| plan, on the CPU | trainings | daemon | processes | ratio |", "|---|---:|---:|---:|---:|"]
    for row in report["rows"]:
        took = [seconds(row[side]["wall_s"]) for side in ("daemon", "processes")]
        lines.append(f"| {row['plan']} | {row['trainings']} | {' | '.join(took)} | {row['wall_ratio']:.3f} |")
    return lines


def daemon_lines(report: Row) -> list[str]:
    """The decision and the status, in each record."""
    lines = ["| attempts in the record | next decision, median | status, whole process |", "|---:|---:|---:|"]
    for row in report["rows"]:
        cells = (seconds(row["decision_median_s"]), seconds(row["status_wall_s"]))
        lines.append(f"| {row['attempts']:,} | {cells[0]} | {cells[1]} |")
    return lines


def search_lines(rows: list[Row]) -> list[str]:
    """How each search went."""
    trained = [row for row in rows if row["role"] in ("screen", "confirm") and row["started_at"]]
    lines = [
        "| search | probes | trainings | micro-batch | tokens/s in training | peak memory |",
        "|---|---|---|---:|---:|---:|",
    ]
    for search in dict.fromkeys(row["search"] for row in trained):
        its = [row for row in trained if row["search"] == search]
        probes = [row for row in rows if row["role"] == "probe" and row["search"] == search]
        tokens, taken = sum(row["tokens"] or 0 for row in its), sum(_phase(row, "train") for row in its)
        cells = (
            search,
            _counted(row["outcome"] for row in probes),
            _counted(row["outcome"] for row in its),
            str(its[0]["micro_batch"]),
            f"{tokens / taken:,.0f}" if taken else "",
            size(round(max(row["peak_memory_mib"] or 0 for row in its) * 2**20)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _phase(row: Row, name: str) -> float:
    return float((row["seconds"] or {}).get(name, 0.0))


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items())) or "none"


TABLES = {
    "tune": tuning_lines,
    "kernel": kernel_lines,
    "step": step_lines,
    "fla": step_lines,
    "startup": startup_lines,
    "compare": compare_lines,
    "daemon": daemon_lines,
}
SEARCHES = ("search", "busy")


def markdown(folder: Path, parts: list[Part]) -> str:
    """The page."""
    machine = report_of(folder, "machine") or {}
    device = machine.get("gpu") or machine.get("cpu") or "an unknown machine"
    lines = [f"# {machine.get('date', '')[:10]}, {device}".replace("# , ", "# "), ""]
    lines += ["Made by `tests/gpu/run_all.sh`; what the parts are: [gpu.md](../gpu.md).", ""]
    lines += ["| | |", "|---|---|"]
    for name, value in machine.items():
        if value:
            lines.append(f"| {name} | {'; '.join(value) if isinstance(value, list) else value} |")
    lines += ["", "| part | outcome | took | limit | |", "|---|---|---:|---:|---|"]
    for part in parts:
        took = f"{part.seconds} s | {part.limit_s} s" if part.outcome != "skipped" or part.seconds else " | "
        lines.append(f"| {part.name} | **{part.outcome}** | {took} | {part.why.replace('|', '/')} |")
    reports = {name: report for name in TABLES if (report := report_of(folder, name))}
    searches = {name: rows for name in SEARCHES if (rows := json_lines(folder / f"{name}.jsonl"))}
    ran = {name: kernels_ran(folder / "state", rows) for name, rows in searches.items()}
    lines += ["", "## figures", "", *figure_lines(reports, searches, ran, gpu=bool(machine.get("gpu")))]
    for name, report in reports.items():
        lines += ["", f"## {name}", "", *TABLES[name](report)]
    for name, rows in searches.items():
        lines += ["", f"## {name}", "", *search_lines(rows)]
    return "\n".join(lines) + "\n"


def main(folder: Path, device: str) -> int:
    """Write both files and print how it went; gives the exit code."""
    parts = [judged(part, folder) for part in parts_of(folder)]
    (folder / "summary.md").write_text(markdown(folder, parts))
    found = {"machine": report_of(folder, "machine"), "parts": [asdict(part) for part in parts]}
    (folder / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    skipped = [part for part in parts if part.outcome == "skipped" and part.why != NOT_ASKED]
    bad = [part for part in parts if part.outcome in ("failed", "timed out")]
    passed = [part.name for part in parts if part.outcome == "passed"]
    print(f"\npassed: {', '.join(passed) or 'nothing'}")
    for part in [*skipped, *bad]:
        print(f"{part.outcome}: {part.name}{': ' if part.why else ''}{part.why}")
    print(f"all of it is in {folder / 'summary.md'}")
    missing = [part for part in skipped if part.name not in OPTIONAL]
    return 1 if bad or (missing and device != "cpu") else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
