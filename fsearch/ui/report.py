"""`fsearch report [PLAN]`: what was found, and what may be claimed. Reads only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from fsearch.ui.asked import views_of
from fsearch.ui.errors import OK
from fsearch.ui.layout import console, put
from fsearch.ui.rows import Row
from fsearch.ui.state import folder
from fsearch.ui.table import overview, plan_report
from fsearch.ui.view import PlanView

SCHEMA = 2
"""Of the JSON; raised when a key changes its meaning or goes."""


def answer(options: argparse.Namespace) -> int:
    """Print the report of one plan, or of all plans of the record."""
    views, _ = views_of(options.plan, folder(options.state), examples=True)
    if options.json:
        print(json.dumps(as_json(views), indent=2))
        return OK
    screen = console()
    put(screen, lines(views, screen.width))
    return OK


def lines(views: Sequence[PlanView], width: int) -> list[Text]:
    """The report of one plan in full, or of several in brief."""
    return plan_report(views[0], width) if len(views) == 1 else overview(views, width)


def as_json(views: Sequence[PlanView]) -> dict[str, Any]:
    """Everything in a report; the attempts themselves are `fsearch export`'s."""
    plans = []
    for view in views:
        searches = [asdict(search) for search in view.searches]
        failures = [_failure(row) for row in view.failures]
        found = [asdict(task) for task in view.regimes]
        rest = {"superseded": view.superseded, "searches": searches, "regimes": found, "failures": failures}
        names = ("id", "name", "path", "at_least", "alpha", "finished", "promoted", "tops_up")
        plans.append({**{name: getattr(view, name) for name in names}, **rest})
    return {"schema": SCHEMA, "plans": plans}


def _failure(row: Row) -> dict[str, Any]:
    return {
        "id": row.attempt.spec.id,
        "search": row.search,
        "stage": row.stage,
        "variant": row.variant,
        "seed": row.attempt.spec.seed,
        "tries": len(row.tries),
        "outcome": row.attempt.outcome,
        "reason": row.attempt.reason,
    }
