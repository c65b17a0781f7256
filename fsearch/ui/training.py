"""The attempt that trains and the machine it trains on, as plain data.

What only this moment knows comes from the daemon's row; the baseline's curve comes from the record. Where the
process runs on this machine, its share of the processors and its memory are looked up here and now: the
daemon is not asked.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from fsearch.plan import BASELINE
from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.store import DaemonRecord, Reader, Sample
from fsearch.system.process import Usage, usage
from fsearch.ui.view import PlanView


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How far an attempt is. Scores are fractions."""

    step: int
    steps: int
    loss: float | None  # of that step, per trained token
    tokens_per_s: float | None
    left_s: float | None  # until its last step, at the pace so far
    losses: tuple[float | None, ...]  # evenly over all of its steps; None for what is not there yet
    evaluated_step: int | None  # of its newest evaluation
    score: float | None  # in that
    baseline_score: float | None  # of the matched baseline at the same step, on the same examples

    @property
    def d_acc(self) -> float | None:
        """What the newest evaluation says of the variant so far."""
        if self.score is None or self.baseline_score is None:
            return None
        return self.score - self.baseline_score


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an attempt trains on."""

    name: str  # of the GPU's or the processor's model
    reading: Sample | None  # of the GPU, where it trains on one
    energy_mj: float | None  # that the GPU took for the plan so far
    usage: Usage | None  # of the process, where it can be seen from here


def training_of(reader: Reader, daemon: DaemonRecord, row: Attempt, view: PlanView | None) -> Training | None:
    """How far the attempt of `row` is; None before its first step."""
    said = _said_of(daemon, row)
    if not said:
        return None
    evaluation: dict[str, Any] = said["evaluation"] or {}
    baseline = None
    if evaluation and view is not None and row.spec.variant != BASELINE:
        baseline = _baseline_score(reader, row.spec, view, evaluation["step"], evaluation["half"])
    return Training(
        step=said["step"],
        steps=said["steps"],
        loss=said["loss"],
        tokens_per_s=said["tokens_per_s"],
        left_s=said["left_s"],
        losses=tuple(said["losses"]),
        evaluated_step=evaluation.get("step"),
        score=evaluation.get("score"),
        baseline_score=baseline,
    )


def machine_of(daemon: DaemonRecord, row: Attempt, view: PlanView | None) -> Machine:
    """What the attempt of `row` trains on."""
    said = _said_of(daemon, row)
    reading = Sample(**said["reading"]) if said and said["reading"] else None
    tries = [one for place in (view.rows if view else ()) for one in place.tries]
    taken_mj = [one.energy_mj for one in tries if one.energy_mj is not None]
    if reading is not None and reading.energy_mj is not None:
        taken_mj.append(reading.energy_mj)
    here = daemon.host == socket.gethostname()
    return Machine(
        name=str(row.fingerprints.get("device", "")),
        reading=reading,
        energy_mj=sum(taken_mj) if taken_mj else None,
        usage=usage(row.pid, row.pid_started) if here and row.pid is not None else None,
    )


def _said_of(daemon: DaemonRecord, row: Attempt) -> dict[str, Any]:
    """What the daemon last said of this very try; empty before its first step."""
    said = daemon.progress
    return said if (said.get("attempt"), said.get("try")) == (row.spec.id, row.try_number) else {}


def _baseline_score(reader: Reader, spec: AttemptSpec, view: PlanView, step: int, half: str) -> float | None:
    """What the curve of the matched baseline has for a step; None where there is no such point."""
    for row in view.rows:
        place = (row.attempt.spec.search_key, row.stage, row.variant, row.attempt.spec.seed)
        if place == (spec.search_key, spec.stage, BASELINE, spec.seed) and row.closed and not row.superseded:
            curve = reader.evaluations(row.attempt.spec.id, row.attempt.try_number)
            return next((point.score for point in curve if (point.step, point.half) == (step, half)), None)
    return None
