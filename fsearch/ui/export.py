"""`fsearch export [PLAN]`: the record for scripts, one JSON object a line. Reads only.

One object for each attempt id, its closing try; `--tries` gives every try. The order is that in which the
plan asks, so two runs of a plan give the same lines, times and process ids aside. `plan` is who asked for
an attempt first; `search`, `stage` and `variant` are the words of the plan that is exported. Every key is
explained in docs/export.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fsearch.search.rows import Attempt, Half
from fsearch.store import Reader
from fsearch.ui.asked import views_of
from fsearch.ui.errors import OK
from fsearch.ui.rows import Row
from fsearch.ui.state import folder, looking
from fsearch.ui.view import PlanView

SCHEMA = 1
"""Of the objects; raised when a key changes its meaning or goes."""


def answer(options: argparse.Namespace) -> int:
    """Print the objects of one plan, or of all plans of the record."""
    state = folder(options.state)
    views, records = views_of(options.plan, state)
    plan_names = {record.id: record.name for record in records}
    with looking(state) as reader:
        details = Details(reader, curves=options.curves, examples=options.examples)
        objects = exported(views, plan_names, tries=options.tries, details=details)
        if options.csv:
            _write_csv(list(objects))
        else:
            for item in objects:
                print(json.dumps(item, ensure_ascii=False))
    return OK


class Details:
    """What is exported on demand: the curves and the scores of single examples."""

    def __init__(self, reader: Reader, *, curves: bool, examples: bool):
        self._reader = reader
        self._curves = curves
        self._examples = examples
        facts = reader.facts() if examples else {}
        self._documents = {fact.sha256: fact.documents_of for fact in facts.values()}

    def of(self, attempt: Attempt) -> dict[str, Any]:
        """The keys that a try gets beside the others."""
        found: dict[str, Any] = {}
        if self._curves:
            points = self._reader.evaluations(attempt.spec.id, attempt.try_number)
            found["curve"] = [asdict(point) for point in points]
        if self._examples:
            halves = {half: self._half(attempt, half) for half in attempt.spec.halves}
            found["examples"] = {half: scores for half, scores in halves.items() if scores}
        return found

    def _half(self, attempt: Attempt, half: Half) -> dict[str, Any]:
        scores = self._reader.example_scores(attempt.spec.id, attempt.try_number, half)
        if scores is None:
            return {}
        documents_of = self._documents.get(attempt.fingerprints.get("data", ""))
        documents = documents_of(half) if documents_of else []
        return {
            "correct": scores.correct.tolist(),
            "total": scores.total.tolist(),
            "loss": scores.loss.tolist(),
            "document": documents if len(documents) == len(scores.total) else None,
        }


def exported(
    views: Sequence[PlanView],
    plan_names: dict[str, str],
    *,
    tries: bool = False,
    details: Details | None = None,
) -> Iterator[dict[str, Any]]:
    """The objects of the given plans; an attempt that two of them share stands with the first."""
    seen: set[str] = set()
    for view in views:
        for row in view.rows:
            if row.attempt.spec.id in seen:
                continue
            seen.add(row.attempt.spec.id)
            for attempt in row.tries if tries else (row.attempt,):
                item = _object(row, attempt, plan_names)
                yield item | details.of(attempt) if details else item


def _object(row: Row, attempt: Attempt, plan_names: dict[str, str]) -> dict[str, Any]:
    spec = attempt.spec
    # What the plan makes of an attempt holds for the try that closed it, not for those before.
    counts = attempt is row.attempt
    return {
        "schema": SCHEMA,
        "id": spec.id,
        "plan": spec.plan,
        "plan_name": plan_names.get(spec.plan, ""),
        "search": row.search,
        "task": spec.task,
        "arguments": spec.arguments,
        "model": spec.model,
        "recipe": spec.recipe,
        "batch": spec.batch,
        "micro_batch": spec.micro_batch,
        "stage": row.stage,
        "role": spec.role,
        "variant": row.variant,
        "form": spec.form,
        "seed": spec.seed,
        "master_seed": spec.master_seed,
        "try": attempt.try_number,
        "outcome": attempt.outcome,
        "outcome_class": attempt.outcome_class,
        "reason": attempt.reason,
        "score": attempt.score,
        "loss": attempt.loss,
        "acc_pooled": attempt.acc_pooled,
        "screen_score": attempt.screen_score,
        "metrics": attempt.metrics,
        "screen_metrics": attempt.screen_metrics,
        "unavailable": attempt.unavailable,
        "completions": spec.completions,
        "metric": row.metric,
        "d_acc": row.d_acc if counts else None,
        "decision": row.decision if counts else None,
        "verdict": row.verdict if counts else None,
        "provisional": row.provisional if counts else None,
        "steps": attempt.steps_done,
        "tokens": attempt.tokens,
        "backend": attempt.backend,
        "superseded": row.superseded if counts else attempt.fingerprint != row.attempt.fingerprint,
        "seconds": attempt.seconds,
        "energy_mj": attempt.energy_mj,
        "idle_s": attempt.idle_s,
        "peak_memory_mib": attempt.peak_memory_mib,
        "memory_mib": spec.memory_mib,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "fingerprint": attempt.fingerprint,
        "node": attempt.node,
    }


def _write_csv(objects: list[dict[str, Any]]) -> None:
    flat = [dict(_flattened(item)) for item in objects]
    names = list(dict.fromkeys(name for item in flat for name in item))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def _flattened(item: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values under dotted names; lists as JSON."""
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list | bool) else value
