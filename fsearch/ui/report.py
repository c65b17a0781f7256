"""`fsearch report [PLAN]`: what was found, and what may be claimed. Reads only.

In the terminal, or whole as Markdown, as a page, as JSON; `--against` compares with an older export.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from fsearch.system.files import write_atomic
from fsearch.ui.asked import views_of
from fsearch.ui.drift import Drift, drift_of
from fsearch.ui.drift_table import drift_lines
from fsearch.ui.errors import FAILED, OK, UserError
from fsearch.ui.findings import Findings, findings_of
from fsearch.ui.layout import console, put
from fsearch.ui.markdown import markdown
from fsearch.ui.state import folder, looking
from fsearch.ui.table import overview, plan_report
from fsearch.ui.view import PlanView

SCHEMA = 2
"""Of the JSON; raised when a key changes its meaning or goes."""

STDOUT = "-"


def answer(options: argparse.Namespace) -> int:
    """Print or write the report of one plan, or of all plans of the record."""
    refuse_mixtures(options)
    state = folder(options.state)
    views, records = views_of(options.plan, state, examples=options.json or not options.against)
    drift = None
    if options.against:
        plan_names = {record.id: record.name for record in records}
        drift = drift_of(options.against, views, plan_names, every_plan=options.plan is None)
    if options.json or options.markdown or options.html:
        with looking(state) as reader:
            found = [findings_of(view, reader) for view in views]
        _give(options, found, drift)
        return OK
    screen = console()
    put(screen, drift_lines(drift, screen.width) if drift else lines(views, screen.width))
    return OK


def refuse_mixtures(options: argparse.Namespace) -> None:
    """Raises UserError for options that ask for two things in one place."""
    if options.json + (options.markdown == STDOUT) + (options.html == STDOUT) > 1:
        raise UserError(
            "Two reports for one terminal: of --json, --markdown - and --html - give one, or a file."
        )
    if options.against and (options.markdown or options.html):
        raise UserError("--against is for the terminal and for --json; leave out --markdown and --html.")


def lines(views: Sequence[PlanView], width: int) -> list[Text]:
    """The report of one plan in full, or of several in brief."""
    return plan_report(views[0], width) if len(views) == 1 else overview(views, width)


def as_json(found: Sequence[Findings], drift: Drift | None = None) -> dict[str, Any]:
    """Everything in a report (docs/report.md); the attempts themselves are `fsearch export`'s."""
    known = {"schema": SCHEMA, "plans": [one.as_json() for one in found]}
    return known if drift is None else {**known, "drift": drift.as_json()}


def _give(options: argparse.Namespace, found: Sequence[Findings], drift: Drift | None) -> None:
    if options.json:
        print(json.dumps(as_json(found, drift), indent=2))
    if options.markdown:
        _write(options.markdown, markdown(found))
    if options.html:
        from fsearch.ui.page import page  # matplotlib and jinja2, which nothing else needs

        _write(options.html, page(found))


def _write(name: str, text: str) -> None:
    """Print it, or replace the file; where that is goes to stderr, as stdout may have another report."""
    if name == STDOUT:
        print(text, end="")
        return
    data = text.encode("utf-8", "replace")
    try:
        write_atomic(Path(name), data)
    except OSError as error:
        raise UserError(f"{name}: the report cannot be written ({error.strerror}).", FAILED) from None
    print(f"wrote {name} ({len(data) / 1000:.0f} kB)", file=sys.stderr)
