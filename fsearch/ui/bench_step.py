"""`fsearch bench step`: how fast a training makes steps here, in fp32 and bf16, and what takes the time."""

from __future__ import annotations

import argparse
from typing import Any

from rich.text import Text

from fsearch.system.messages import Message
from fsearch.ui.bench_child import finish, measure, put_now, report_file, report_of
from fsearch.ui.bench_table import percent, seconds, size
from fsearch.ui.errors import OK
from fsearch.ui.layout import console, paragraph, put
from fsearch.ui.state import folder, shown

_PARTS = ("forward", "head", "backward", "update")
_COLUMNS = ("", "a step", "best", "tokens/s", "peak", *_PARTS)
_CELLS = (6, 10, 10, 10, 10, 8, 6, 9, 7)
_OPERATORS = {
    "kernel": "the kernel",
    "matrix_products": "matrix products",
    "copies_and_casts": "copies and casts",
    "adamw": "AdamW",
    "rest": "the rest",
}


def answer(options: argparse.Namespace) -> int:
    """Measure each precision in a process of its own, print and write; gives 0.

    Raises UserError: wrong arguments, no kernel, a failure.
    """
    state = folder(options.state)
    report = report_of("step", options.threads)
    file = report_file(options.json, state, report)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])
    report["rows"] = []

    def take(message: Message) -> None:
        if message["type"] == "setting" and "shape" not in report:
            report.update(message["setting"])
            put_now(screen, heading(report, screen.width))
        elif message["type"] == "row":
            report["rows"].append(message["row"])
            put_now(screen, row_lines(message["row"], screen.width))

    asked = {name: getattr(options, name) for name in ("device", "batch", "tokens", "threads")}
    job = {**asked, "shape": options.shape, "cache": str(state / "cache" / "kernel")}
    for precision in [options.precision] if options.precision else ["fp32", "bf16"]:
        measure("bench_step", {**job, "precision": precision}, state, screen, take)
    finish(screen, file, report, footnotes(report))
    return OK


def heading(report: dict[str, Any], width: int) -> list[Text]:
    """What was measured on what, and the head of the table."""
    shape, threads = report["shape"], report["threads"]
    model = (
        f"{report['parameters'] / 1e6:.3g} M parameters: {shape['n_layer']} layers of {shape['n_embd']}, "
        f"heads of {shape['head_size']}, vocabulary {shape['vocab_size']}; {shape['batch']} x "
        f"{shape['tokens']} tokens a step, {report['targets']} of them targets, in one micro-batch; "
        f"{report['variant']}"
    )
    device = report["gpu"] or f"{report['environment']['device']}, {threads} thread{'s' * (threads > 1)}"
    where = f"{device}; kernel {report['kernel']}, torch {report['torch']}"
    titles = "".join(f"{title:>{space}}" for title, space in zip(_COLUMNS, _CELLS, strict=True))
    return [
        *paragraph(model, width, indent=0),
        *paragraph(where, width, indent=0),
        Text(),
        Text(titles, "dim"),
    ]


def row_lines(row: dict[str, Any], width: int) -> list[Text]:
    """One precision: its figures, and below them what the time goes into."""
    step = row["step_s"]
    cells = (
        f"  {row['precision']}",
        seconds(step["median"]),
        seconds(step["best"]),
        f"{row['tokens_per_s']:,.0f}",
        size(round(row["peak_memory_mib"] * 2**20)),
        *(percent(row["parts"][part]) for part in _PARTS),
    )
    line = "".join(f"{cell:>{space}}" for cell, space in zip(cells, _CELLS, strict=True))
    operators = ", ".join(f"{name} {percent(row['operators'][key])}" for key, name in _OPERATORS.items())
    made = f"{row['flop_per_s'] / 1e12:.3g} TFLOP/s"
    if row["mfu"] is not None:
        made += (
            f", {percent(row['mfu'])} of the {row['stated_peak_flop_per_s'] / 1e12:.3g} that the maker states"
        )
    return [Text(line), *paragraph(f"{made}; {operators}", width, indent=4, style="dim")]


def footnotes(report: dict[str, Any]) -> list[str]:
    """What the columns mean."""
    peak = "that torch reserved on the GPU" if report["gpu"] else "that the whole process had, torch included"
    return [
        f"a step: the median of several ({report['clock']}), and tokens/s from it; forward, head (both ways, "
        "with the loss), backward and update (clipping and AdamW) are shares of it. The first step does not "
        "count.",
        f"peak: the most memory {peak}. Below: operations a second that the model asks for (what is computed "
        "anew is not counted); shares of further steps by operator, in a profiler; the rest is other "
        "operators, Python and the profiler itself.",
    ]
