"""`fsearch bench step`: how fast a training makes steps here, by variant, and what takes the time."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from rich.text import Text

from fsearch.plan import BASELINE
from fsearch.system.messages import Message
from fsearch.ui.bench_child import finish, measure, put_now, report_file, report_of
from fsearch.ui.bench_table import percent, seconds, size
from fsearch.ui.errors import OK, USAGE, UserError
from fsearch.ui.layout import console, paragraph, put
from fsearch.ui.state import folder, shown

VARIANTS = ("scalar_l1", "scalar_l1_nodetach", "head_l1_nodetach")
"""Future-Seed in every layer that can have it: fixed and detached, trained and not detached."""

_COLUMNS = ("", "a step", "best", "tokens/s", "ratio", "peak")
_CELLS = (26, 10, 10, 10, 8, 11)
_OPERATORS = {
    "kernel": "the kernel",
    "matrix_products": "matrix products",
    "copies_and_casts": "copies and casts",
    "adamw": "AdamW",
    "rest": "the rest",
}
Case = dict[str, Any]


def answer(options: argparse.Namespace) -> int:
    """Measure each precision, its rows beside each other in one process; print and write; gives 0.

    Peak memory is that of a process of its own for each row. Raises UserError: wrong arguments, no kernel, a
    failure.
    """
    asked = cases(options)
    state = folder(options.state)
    report = report_of("step", options.threads)
    file = report_file(options.json, state, report)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])
    report["rows"] = []
    job = {"device": options.device, "threads": options.threads, "shape": options.shape}
    job["cache"] = str(state / "cache" / "kernel")

    for precision in [options.precision] if options.precision else ["fp32", "bf16"]:
        rows: list[dict[str, Any]] = []

        def take(message: Message, rows: list[dict[str, Any]] = rows) -> None:
            if message["type"] == "setting" and "shape" not in report:
                report.update(message["setting"])
                put_now(screen, heading(report, screen.width))
            elif message["type"] == "row":
                rows.append(message["row"])
            elif message["type"] == "peak":
                rows[0]["peak_memory_mib"] = message["peak_memory_mib"]

        measure(
            "bench_step", {**job, "precision": precision, "cases": asked, "peak": False}, state, screen, take
        )
        for case in asked:
            if not rows[0]["left_out"]:
                alone = {**job, "precision": precision, "cases": [case], "peak": True}
                measure("bench_step", alone, state, screen, take)
            report["rows"].append(rows.pop(0))
            put_now(screen, row_lines(report["rows"][-1], screen.width))
    finish(screen, file, report, footnotes(report))
    return OK


def cases(options: argparse.Namespace) -> list[Case]:
    """What is measured beside each other, the first being what the others are compared with.

    Raises UserError for lengths that do not divide the longest, or that are asked for beside `--against`.
    """
    if options.lengths is None:
        names = (BASELINE, *VARIANTS, *options.against)
        return [{"contender": name, "batch": options.batch, "tokens": options.tokens} for name in names]
    if options.against or options.tokens:
        raise UserError("--lengths goes neither with --against nor with --tokens. Leave one out.", USAGE)
    longest = max(options.lengths)
    for length in options.lengths:
        if longest % length:
            sentence = f"--lengths: {length} does not divide {longest}, the longest. Give lengths that do."
            raise UserError(sentence, USAGE)
    total = longest * (options.batch or 1)
    return [
        {"contender": VARIANTS[0], "batch": total // length, "tokens": length} for length in options.lengths
    ]


def heading(report: dict[str, Any], width: int) -> list[Text]:
    """What was measured on what, and the head of the table."""
    shape, threads = report["shape"], report["threads"]
    model = (
        f"{report['parameters'] / 1e6:.3g} M parameters: {shape['n_layer']} layers of {shape['n_embd']}, "
        f"heads of {shape['head_size']}, vocabulary {shape['vocab_size']}; {shape['batch']} x "
        f"{shape['tokens']} tokens a step, {report['targets']} of them targets, in one micro-batch"
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
    """One contender: its figures, and below them what the time goes into; or why it was left out."""
    name = f"  {row['precision']} {row['contender']}"
    if row["left_out"]:
        return [Text(name), *paragraph(f"left out: {row['left_out']}", width, indent=4, style="dim")]
    step = row["step_s"]
    cells = (
        f"{row['tokens_per_s']:,.0f}",
        f"{row['ratio']:.2f}",
        size(round(row["peak_memory_mib"] * 2**20)),
    )
    line = f"{name:<{_CELLS[0]}}" + "".join(
        f"{cell:>{space}}"
        for cell, space in zip(
            (seconds(step["median"]), seconds(step["best"]), *cells), _CELLS[1:], strict=True
        )
    )
    made = f"{row['batch']} x {row['tokens']}, {row['flop_per_s'] / 1e12:.3g} TFLOP/s"
    if row["mfu"] is not None:
        made += (
            f", {percent(row['mfu'])} of the {row['stated_peak_flop_per_s'] / 1e12:.3g} that the maker states"
        )
    shares = [f"{part} {percent(share)}" for part, share in row["parts"].items()]
    told = [made, ", ".join(shares)]
    if of := row["operators"]:
        told.append(", ".join(f"{name} {percent(of[key])}" for key, name in _OPERATORS.items()))
    return [Text(line), *paragraph("; ".join(told), width, indent=4, style="dim")]


def footnotes(report: dict[str, Any]) -> list[str]:
    """What the columns mean, and what Future-Seed costs."""
    peak = "that torch reserved on the GPU" if report["gpu"] else "that the whole process had, torch included"
    notes = [
        f"a step: the median of several ({report['clock']}), tokens/s from it. ratio: to the first row of "
        "its precision, the median over rounds in which all rows took turns. The first step does not count.",
        f"peak: the most memory {peak}, in a process of its own for each row. Below: operations a second "
        "that the model asks for (what is computed anew is not counted); shares of a step by part (head: its "
        "product and the loss, both ways; update: clipping and AdamW); in the first row "
        "shares of further steps by operator, in a profiler: the rest is other operators, Python and the "
        "profiler itself.",
    ]
    for precision in dict.fromkeys(row["precision"] for row in report["rows"]):
        of = [row for row in report["rows"] if row["precision"] == precision and not row["left_out"]]
        seeded = [row["ratio"] for row in of if row["contender"] in VARIANTS]
        if len(of) > 1 and of[0]["contender"] == BASELINE:
            notes.append(
                f"{precision}: a step with Future-Seed takes {statistics.median(seeded):.3f} of one without, "
                f"the median of {len(seeded)} variants."
            )
    if report["fla"]:
        notes.append(
            f"fla: the RWKV-7 of flash-linear-attention {report['fla']} with the same weights, logits at the "
            "targets alone, and our clipping and AdamW; in bf16 from copies of the float32 weights."
        )
    return notes
