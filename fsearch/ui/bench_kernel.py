"""`fsearch bench kernel`: how fast the WKV7-FS operator is here, and how near the machine's limit."""

from __future__ import annotations

import argparse
from typing import Any

from rich.text import Text

from fsearch.system.messages import Message
from fsearch.ui.bench_child import finish, measure, put_now, report_file, report_of
from fsearch.ui.bench_table import error_lines, footnotes, heading, shape_lines, shape_name
from fsearch.ui.errors import FAILED, OK, UserError
from fsearch.ui.layout import console, put
from fsearch.ui.state import folder, shown
from fsearch.ui.words import names


def answer(options: argparse.Namespace) -> int:
    """Measure, print and write; gives 0.

    Raises UserError: wrong arguments, no kernel, a failure, or a wrong result among those measured.
    """
    state = folder(options.state)
    report = report_of("kernel", options.threads)
    report["quick"] = options.quick
    report["peers"] = dict(options.peer)
    report["tuning"] = None
    file = report_file(options.json, state, report)
    screen = console()
    put(screen, [Text(f"state {shown(state)}", "dim")])

    def take(message: Message) -> None:
        if message["type"] == "setting":
            report.update(message["setting"], rows=[])
            put_now(screen, heading(report, screen.width))
        elif message["type"] == "shape":
            report["rows"] += message["rows"]
            put_now(screen, [Text(), *shape_lines(message["rows"], screen.width)])
        elif message["type"] == "tuning":
            if report["tuning"] is None:
                report["tuning"] = {"file": None, "name": None, "rows": []}
                put_now(screen, [Text(), Text("tuning: v1 beside v2", "dim")])
            report["tuning"]["rows"] += message["rows"]
            put_now(screen, [Text(), *shape_lines(message["rows"], screen.width)])
        elif message["type"] == "tuned":
            report["tuning"] |= {"file": message["file"], "name": message["name"]}

    job = {name: getattr(options, name) for name in ("device", "threads", "quick", "tune")}
    job |= {"peers": report["peers"], "cache": str(state / "cache" / "kernel")}
    measure("bench_kernel", job, state, screen, take, _doing)
    put_now(screen, [Text(), *error_lines(report["rows"])])
    finish(screen, file, report, footnotes(report))
    refuse_wrong(report["rows"] + (report["tuning"] or {"rows": []})["rows"])
    return OK


def refuse_wrong(rows: list[dict[str, Any]]) -> None:
    """Raise UserError if a result was wrong."""
    wrong = list(dict.fromkeys(row["contender"] for row in rows if row.get("wrong")))
    if wrong:
        raise UserError(f"WRONG results from {names(wrong)}, see above: their times mean nothing.", FAILED)


def _doing(message: Message) -> str:
    if "shape" not in message:
        return str(message["doing"])
    return f"shape {message['number']} of {message['of']}, {shape_name(message['shape'])}: {message['doing']}"
