"""Where the device's time and energy went: a plan's tries, summed by how they ended and what they were for.

Building, inspecting and preparing are not counted: they run ahead, beside the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from fsearch.plan import BASELINE
from fsearch.search.rows import AHEAD, Attempt
from fsearch.ui.rows import Row

Purpose = Literal[
    "probe",
    "screen, baseline",
    "screen, pruned",
    "screen, variants",
    "confirm, baseline",
    "confirm, variants",
]
"""What a try was for; `screen, pruned` has the variants that went no further."""

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

SUPERSEDED = "superseded"
"""In place of the outcome of a try of other code, data or machine, which counts for nothing any more."""

_OF_A_DEAD_DAEMON = "daemon died"
"""The pattern of a try whose end was noted by the next daemon: nobody knows when it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the tries with one outcome and one purpose took."""

    outcome: str
    purpose: Purpose
    tries: int
    seconds: float
    untimed: int  # tries of these whose time nobody knows: their daemon died with them
    idle_s: float  # in which the device had no work before their first steps
    energy_mj: float | None  # millijoules; None where the device does not say


def costs_of(rows: Iterable[Row]) -> list[Cost]:
    """Sums over all ended tries that a device was used for; the most expensive outcome first."""
    groups: dict[tuple[str, Purpose], list[Attempt]] = {}
    for row in rows:
        for attempt in row.tries:
            spec = attempt.spec
            if spec.role in AHEAD or "noop" in spec.form or attempt.outcome is None:
                continue
            old = row.superseded or attempt.fingerprint != row.attempt.fingerprint
            key = (SUPERSEDED if old else attempt.outcome, _purpose(row))
            groups.setdefault(key, []).append(attempt)
    costs = [_cost(outcome, purpose, some) for (outcome, purpose), some in groups.items()]
    whole = {outcome: sum(cost.seconds for cost in costs if cost.outcome == outcome) for outcome, _ in groups}
    return sorted(costs, key=lambda cost: (-whole[cost.outcome], cost.outcome, PURPOSES.index(cost.purpose)))


def _cost(outcome: str, purpose: Purpose, attempts: list[Attempt]) -> Cost:
    seconds = [seconds_of(attempt) for attempt in attempts]
    energy = [attempt.energy_mj for attempt in attempts if attempt.energy_mj is not None]
    return Cost(
        outcome=outcome,
        purpose=purpose,
        tries=len(attempts),
        seconds=sum(one for one in seconds if one is not None),
        untimed=sum(one is None for one in seconds),
        idle_s=sum(attempt.idle_s or 0.0 for attempt in attempts),
        energy_mj=sum(energy) if energy else None,
    )


def _purpose(row: Row) -> Purpose:
    spec = row.attempt.spec
    if spec.role == "screen":
        pruned: Purpose = "screen, pruned" if row.decision == "prune" else "screen, variants"
        return "screen, baseline" if spec.variant == BASELINE else pruned
    if spec.role == "confirm":
        return "confirm, baseline" if spec.variant == BASELINE else "confirm, variants"
    return "probe"


def seconds_of(attempt: Attempt) -> float | None:
    """How long a try took: by its phases, else from start to end; None where nobody knows."""
    if attempt.seconds:
        return sum(attempt.seconds.values())
    if attempt.pattern == _OF_A_DEAD_DAEMON or not attempt.started_at or not attempt.ended_at:
        return None
    began, ended = (datetime.fromisoformat(moment) for moment in (attempt.started_at, attempt.ended_at))
    return max(0.0, (ended - began).total_seconds())
