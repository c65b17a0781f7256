"""What happened to a process, in one word; what class of thing that is; and what follows from it.

Which word fits an exit status, a signal or an exception is decided by the daemon's outcome table.
Here stands what the words mean for the protocol: whether an id is closed, and when it is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fsearch.search.rows import Attempt

OutcomeClass = Literal["result", "configuration", "infrastructure", "unknown"]

CLASSES: dict[str, OutcomeClass] = {
    "completed": "result",
    "stopped_early": "result",
    "noop": "result",
    "oom": "configuration",
    "data_short": "configuration",
    "model_refused": "configuration",
    "diverged": "configuration",
    "kernel_build_failed": "configuration",
    "crashed": "unknown",
    "hang": "unknown",
    "host_oom": "infrastructure",
    "network_wait": "infrastructure",
    "model_changed": "infrastructure",
    "disk_full": "infrastructure",
    "gpu_lost": "infrastructure",
    "gpu_contended": "infrastructure",
    "interrupted": "infrastructure",
}

FREE_PATTERNS = frozenset({"daemon died", "zygote died", "stopped"})
"""Interruptions that are nobody's fault: they count against no limit."""

UNKNOWN_TRIES = 2
FIRST_BACK_OFF_S = 5.0
LONGEST_BACK_OFF_S = 300.0


@dataclass(frozen=True, slots=True)
class Closed:
    """The attempt is over: `last` is its closing try, `used_up` says that only the limit closed it."""

    last: Attempt
    used_up: bool = False

    @property
    def completed(self) -> bool:
        return self.last.outcome == "completed"


@dataclass(frozen=True, slots=True)
class Open:
    """The attempt is to be tried, not before `not_before_s` on the asking daemon's monotonic clock."""

    try_number: int
    not_before_s: float = 0.0
    why: str = ""


def of_one_daemon(tries: Sequence[Attempt], daemon: str) -> list[Attempt]:
    """The tries that `daemon` made; for those who only look ("") those of the daemon that tried last.

    For builds and inspections: what they found missing may be there when another daemon starts.
    """
    asking = daemon or max(tries, key=lambda attempt: attempt.sequence).daemon if tries else ""
    return [attempt for attempt in tries if attempt.daemon == asking]


def standing(tries: Sequence[Attempt], retries: int, daemon: str) -> Closed | Open:
    """Whether an attempt is closed, and if not, which try comes next and when.

    Results and configuration failures close; unknown failures are tried twice; infrastructure
    failures `retries` times more, with a back-off that doubles and starts afresh in a new daemon.
    """
    counted = unknown = 0
    ordered = sorted(tries, key=lambda attempt: attempt.try_number)
    for attempt in ordered:
        if attempt.outcome_class in ("result", "configuration"):
            return Closed(attempt)
        if attempt.outcome_class == "unknown":
            unknown += 1
        elif attempt.outcome is not None and attempt.pattern not in FREE_PATTERNS:
            counted += 1
    if not ordered:
        return Open(1)
    last = ordered[-1]
    if unknown >= UNKNOWN_TRIES or counted > retries:
        return Closed(last, used_up=True)
    not_before_s = 0.0
    if last.daemon == daemon and last.outcome_class == "infrastructure" and last.pattern not in FREE_PATTERNS:
        not_before_s = last.ended_monotonic_s + min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** (counted - 1))
    return Open(last.try_number + 1, not_before_s, last.reason)
