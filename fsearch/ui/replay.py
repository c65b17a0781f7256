"""`fsearch replay RECORDS`: a plan's rules applied to recorded results. Trains nothing and writes nothing.

What is decided comes from `fsearch.search.replay`; the tables are `fsearch.ui.replay_table`'s.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from fsearch.search.replay import Ambiguous, Replayed, replay
from fsearch.ui.errors import OK, UserError
from fsearch.ui.layout import console, put
from fsearch.ui.records import read
from fsearch.ui.replay_table import lines
from fsearch.ui.rules import rules_for


def answer(options: argparse.Namespace) -> int:
    """Print what the rules say of the rows of a file."""
    records = read(options.records)
    rules = rules_for(records, options.prune_below, options.plan)
    try:
        replayed = replay(records.rows, rules.prune_below)
    except Ambiguous as error:
        raise UserError(f"{records.name}: {error}.") from None
    if options.json:
        print(json.dumps([as_json(item) for item in replayed], indent=2, ensure_ascii=False))
        return OK
    screen = console()
    put(screen, lines(records, replayed, rules, screen.width))
    return OK


def as_json(item: Replayed) -> dict[str, Any]:
    """One variant's row; differences are fractions. The seed is left out where the record has none."""
    spec, row = item.row.attempt.spec, item.row
    found: dict[str, Any] = {"line": row.line, "task": spec.task}
    if not row.drafts:
        found |= {"search": spec.search, "master_seed": spec.master_seed}
    found["bsz"] = spec.batch
    if row.seed is not None:
        found["seed"] = row.seed
    found |= {"variant": spec.variant, "stage": spec.stage, "d_acc": item.d_acc, "decision": item.decision}
    found |= {"tie": item.tie, "reason": item.reason}
    if spec.role == "confirm":
        found |= {"verdict": item.verdict, "delta_as_the_drafts_reported": item.drafts_delta}
    return found
