"""What the attempt that trains has said about its training, as small as a screen wants it.

It goes into the daemon's row with every sign of life, decides nothing, and is forgotten with the attempt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fsearch.search.rows import Attempt
from fsearch.store.records import Sample

if TYPE_CHECKING:
    from fsearch.daemon.places import Place

CURVE_POINTS = 40
"""Of the curve of losses, however many steps there are."""


class Training:
    """The progress and the evaluations of one process, taken in one by one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step = self._steps = 0
        self._first: tuple[float, int] | None = None  # when it said its first step, and which that was
        self._latest_s = 0.0
        self._loss: float | None = None
        self._tokens_per_s: float | None = None
        self._losses: list[float | None] = [None] * CURVE_POINTS
        self._evaluation: dict[str, Any] | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a message of the type `progress` in."""
        if "step" not in message:
            return
        self._step, self._steps = int(message["step"]), int(message["steps"])
        self._latest_s = self._clock()
        if self._first is None:
            self._first = (self._latest_s, self._step)
        self._loss = _finite(message.get("loss"))
        self._tokens_per_s = _finite(message.get("tokens_per_s"))
        place = min(CURVE_POINTS - 1, self._step * CURVE_POINTS // max(1, self._steps))
        self._losses[place] = self._loss

    def evaluated(self, message: Mapping[str, Any]) -> None:
        """Take a point of its curve in."""
        place = {name: message[name] for name in ("step", "half")}
        self._evaluation = {**place, "score": _finite(message["score"])}

    def told(self, attempt: Attempt, reading: Sample | None) -> dict[str, Any]:
        """All of it as JSON, empty before the first step; `reading` is the newest one of the GPU."""
        if not self._steps:
            return {}
        return {
            "attempt": attempt.spec.id,
            "try": attempt.try_number,
            "step": self._step,
            "steps": self._steps,
            "loss": self._loss,
            "tokens_per_s": self._tokens_per_s,
            "left_s": self._left_s(),
            "losses": self._losses,
            "evaluation": self._evaluation,
            "reading": None if reading is None else asdict(reading),
        }

    def _left_s(self) -> float | None:
        """Seconds to the last step at the pace so far, evaluations among it; None before there is a pace."""
        if self._first is None:
            return None
        began_s, first_step = self._first
        done, passed_s = self._step - first_step, self._latest_s - began_s
        return passed_s / done * (self._steps - self._step) if done > 0 else None


def progress_of(places: Sequence[Place]) -> dict[str, Any]:
    """What the places say, as JSON: all of what began last, and of a cluster a line for each place."""
    busy = [(place, place.child, place.child.attempt) for place in places if place.child]
    training = [(child.training.told(row, place.reading), row) for place, child, row in busy if row]
    newest: dict[str, Any] = max(training, key=lambda one: one[1].sequence)[0] if training else {}
    if not any(place.node for place in places):
        return newest
    lines: list[dict[str, Any]] = []
    for place in places:
        row = place.child.attempt if place.child else None
        said = place.child.progress if place.child else {}
        step: dict[str, Any] = {name: said[name] for name in ("step", "steps") if name in said}
        what = {"attempt": row.spec.id, "try": row.try_number, **step} if row else {}
        lines.append({"place": place.name, "node": place.node, **what})
    return {**newest, "places": lines}


def _finite(number: Any) -> float | None:
    """A number as the record takes it: NaN and infinities are none."""
    return float(number) if isinstance(number, int | float) and math.isfinite(number) else None
