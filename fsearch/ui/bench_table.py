"""The figures of `fsearch bench kernel` as lines: a block for each shape, a line in it for each contender.

Fixed columns, so that a block can be printed as soon as it is measured. Fits 80 columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from fsearch.ui.layout import paragraph

Row = dict[str, Any]

PASSES = ("forward", "forward_backward")
_NAME = 11
_CELLS = (9, 7, 6, 9)  # time, ratio, share of the floor, peak memory
_ERROR = 7


def heading(report: dict[str, Any], width: int) -> list[Text]:
    """What was measured on what, and the head of the table."""
    machine, limits = report["machine"], report["limits"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    device = machine["gpu"] or f"{report['environment']['device']}, {threads}"
    where = f"{device}; kernel {report['kernel']}, {report['dtype']}, torch {report['versions']['torch']}"
    limit = (
        f"the machine's limit: copies {limits['copy_bytes_per_s'] / 1e9:.3g} GB/s, "
        f"multiplies matrices at {limits['matmul_flop_per_s'] / 1e9:.4g} GFLOP/s"
    )
    passes = "".join(f"{title:^{sum(_CELLS)}}" for title in ("forward", "forward + backward"))
    cells = "".join(
        f"{title:>{size}}" for title, size in zip(("time", "ratio", "floor", "peak"), _CELLS, strict=True)
    )
    return [
        *paragraph(where, width, indent=0),
        *paragraph(limit, width, indent=0),
        Text(),
        Text(f"{'':{_NAME}}{passes}".rstrip(), "dim"),
        Text(f"{'':{_NAME}}{cells}{cells}{'error':>{_ERROR}}", "dim"),
    ]


def shape_name(shape: dict[str, Any]) -> str:
    """`B=8 T=256 H=4 N=64`."""
    return " ".join(f"{name}={shape[name]}" for name in "BTHN")


def shape_lines(rows: Sequence[Row], width: int) -> list[Text]:
    """The block of one shape: its least times, then its contenders."""
    title = Text(shape_name(rows[0]), "bold cyan")
    measured = [row for row in rows if not row["left_out"]]
    if measured:
        floors = [measured[0][of] for of in PASSES]
        least = [max(floor["floor_by_bytes_s"], floor["floor_by_flops_s"]) for floor in floors]
        by = [
            "bytes" if floor["floor_by_bytes_s"] >= floor["floor_by_flops_s"] else "flops" for floor in floors
        ]
        title.append(
            f"  floor {seconds(least[0])}, {seconds(least[1])} ({', '.join(dict.fromkeys(by))})", "dim"
        )
    lines = [title]
    for row in rows:
        lines += _contender(row, width)
    for row in measured:
        if row["checkpoint_bytes"] is not None:
            costs = [f"{row[of]['capture_ratio']:.3f}x {of.replace('_', ' + ')}" for of in PASSES]
            saves = f"{row['contender']} saves {size(row['checkpoint_bytes'])}"
            lines += paragraph(f"{saves}; a capture costs {', '.join(costs)}", width, indent=4, style="dim")
    return lines


def error_lines(rows: Sequence[Row]) -> list[Text]:
    """The largest relative error of every output and gradient over all shapes, a line for each contender."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name, error in (row.get("errors") or {}).items():
            of = found.setdefault(row["contender"], {})
            of.setdefault(name, []).append(math.nan if error is None else error)
    if not found:
        return []
    names = list(next(iter(found.values())))
    head = "".join(f"{name:>{_ERROR}}" for name in names)
    lines = [
        Text(f"{'  largest errors over all shapes':<{_NAME}}", "dim"),
        Text(f"{'':{_NAME}}{head}", "dim"),
    ]
    for contender, errors in found.items():
        cells = "".join(f"{_short_error(errors[name]):>{_ERROR}}" for name in names)
        lines.append(Text(f"  {contender:<{_NAME - 2}}{cells}"))
    return lines


def _short_error(errors: Sequence[float]) -> str:
    return "nan" if any(map(math.isnan, errors)) else f"{max(errors):.0e}"


def _contender(row: Row, width: int) -> list[Text]:
    name = f"  {row['contender']:<{_NAME - 2}}"
    if row["left_out"]:
        return paragraph(f"{row['contender']} was left out: {row['left_out']}", width, style="dim")
    line = name
    for of in PASSES:
        found = row[of]
        ratio = "" if found["ratio_to_kernel"] is None else f"{found['ratio_to_kernel']:.3g}x"
        cells = (
            seconds(found["best_s"]),
            ratio,
            percent(found["share_of_floor"]),
            size(found["peak_memory_bytes"]),
        )
        line += "".join(f"{cell:>{space}}" for cell, space in zip(cells, _CELLS, strict=True))
    errors = [math.nan if error is None else error for error in row["errors"].values()]
    line += f"{_short_error(errors):>{_ERROR}}"
    if not row["wrong"]:
        return [Text(line)]
    told = ", ".join(f"{name} {_error(row['errors'][name])}" for name in row["wrong"])
    return [Text(line, "bold red"), *paragraph(f"WRONG: relative errors {told}", width, style="bold red")]


def _error(error: float | None) -> str:
    return "nan" if error is None else f"{error:.1e}"


def footnotes(report: dict[str, Any]) -> list[str]:
    """What the columns mean."""
    count = "token by token: 9 N^2 forward and 26 N^2"
    if report["machine"]["gpu"]:
        count = "chunks of 16: 8 N^2 + 256 N forward and 18 N^2 + 704 N"
    notes = [
        f"time: the shortest of several, in rounds in which the contenders took turns ({report['clock']}). "
        "ratio: that time over that of the kernel which a training takes. Half of the tokens lie before the "
        "capture; backward gives the gradients of everything, the captured state's included.",
        "floor: share of the time that the machine's limit allows. It is the larger of what must be moved, "
        "at the rate of a copy of that size (7 N values a token and head forward, 13 N more backward, and "
        "the states), and what must be computed, at the rate of a large matrix product (operations a token "
        f"and head, {count} backward).",
        "peak: memory beside the inputs. error: the largest relative one of y, captured state and gradients. "
        "saves: checkpoints that a compiled kernel keeps for its backward pass, beside its inputs. A capture "
        "costs: its time over its own without the capture and without the gradient that enters there.",
    ]
    if others := [*report["peers"], *(["fla"] if report["versions"]["fla-core"] else [])]:
        notes.append(
            f"{', '.join(others)}: made by others. None captures a state: each takes two calls, the second "
            "from the state in which the first ends."
        )
    if tuning := report["tuning"]:
        notes.append(
            f"tuned: from its next start on fsearch chooses by {tuning['file']}, as {tuning['name']}; a "
            "search that was trained by another choice begins again."
            if tuning["file"]
            else "Nothing was tuned: one of the kernels was wrong."
        )
    if not report["machine"]["gpu"]:
        notes.append(
            "chunked: matrix products in plain torch. loop: token by token in plain torch, as one writes it, "
            "taking x[:, t], whose gradients are as large as x each; unbound: the same without that."
        )
    return notes


def seconds(value: float) -> str:
    """Three digits with a unit: `83.4 µs`, `16.7 ms`, `1.24 s`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= 0.9995 * scale:
            return f"{_digits(value / scale)} {unit}"
    return f"{_digits(value / 1e-6)} µs"


def size(num_bytes: int | None) -> str:
    """`36.1 MiB`, `1.24 GiB`; nothing where it is not known."""
    if num_bytes is None:
        return ""
    mib = num_bytes / 2**20
    return f"{_digits(mib / 1024)} GiB" if mib >= 999.5 else f"{_digits(mib)} MiB"


def percent(share: float) -> str:
    """`28 %`, `0.4 %`."""
    return f"{share * 100:.0f} %" if share >= 0.0095 else f"{share * 100:.1f} %"


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"
