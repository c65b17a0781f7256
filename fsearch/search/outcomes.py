"""What happened to a process, in one word; what class of thing that is; and what follows from it.

Which word fits an exit status, a signal or an exception is decided by the daemon's outcome table.
Here stands what the words mean for the protocol: whether an id is closed, and when it is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from fsearch.plan import Limits
from fsearch.search.rows import Attempt

OutcomeClass = Literal["result", "configuration", "infrastructure", "unknown"]

CLASSES: dict[str, OutcomeClass] = {
    "completed": "result",
    "stopped_early": "result",
    "noop": "result",
    "oom": "configuration",
    "data_short": "configuration",
    "data_refused": "configuration",
    "model_refused": "configuration",
    "diverged": "configuration",
    "kernel_build_failed": "configuration",
    "crashed": "unknown",
    "hang": "unknown",
    "host_oom": "infrastructure",
    "network_wait": "infrastructure",
    "model_changed": "infrastructure",
    "disk_full": "infrastructure",
    "disk_refused": "infrastructure",
    "gpu_lost": "infrastructure",
    "gpu_contended": "infrastructure",
    "interrupted": "infrastructure",
}

FREE_PATTERNS = frozenset({"daemon died", "zygote died", "node lost", "stopped"})
"""Interruptions that are nobody's fault: they count against no limit."""

NETWORK = "network_wait"
"""The outcome that is waited out, for as long as the plan allows, and counts against no number of tries."""

ROOM = "disk_full"
"""The outcome that is waited out for as long as it takes, and counts against no number of tries either."""

UNKNOWN_TRIES = 2
FIRST_BACK_OFF_S = 5.0
LONGEST_BACK_OFF_S = 300.0


@dataclass(frozen=True, slots=True)
class Closed:
    """The attempt is over: `last` is its closing try, `used_up` says that only a limit closed it."""

    last: Attempt
    used_up: bool = False
    waited_s: float | None = None  # for a network, where that limit closed it

    @property
    def completed(self) -> bool:
        return self.last.outcome == "completed"


@dataclass(frozen=True, slots=True)
class Open:
    """The attempt is to be tried, not before `not_before_s` on the asking daemon's monotonic clock."""

    try_number: int
    not_before_s: float = 0.0
    why: str = ""


def runs(tries: Sequence[Attempt], daemon: str) -> bool:
    """Whether a try runs now: one that has not ended, of the daemon that asks; "": of whatever daemon."""
    return any(one.outcome is None and daemon in ("", one.daemon) for one in tries)


def of_one_daemon(tries: Sequence[Attempt], daemon: str) -> list[Attempt]:
    """The tries that `daemon` made; for those who only look ("") those of the daemon that tried last.

    For what is made ready for training: what was missing may be there when another daemon starts.
    """
    asking = daemon or max(tries, key=lambda attempt: attempt.sequence).daemon if tries else ""
    return [attempt for attempt in tries if attempt.daemon == asking]


def streak(tries: Sequence[Attempt], outcome: str) -> list[Attempt]:
    """The newest tries that have ended, as far back as they ended so."""
    ended = [attempt for attempt in _ordered(tries) if attempt.outcome is not None]
    return list(takewhile(lambda one: one.outcome == outcome, reversed(ended)))[::-1]


def network_streak(tries: Sequence[Attempt], daemon: str) -> list[Attempt]:
    """The newest tries that have ended, as far back as `daemon` made them and none found a network."""
    return list(takewhile(lambda one: one.daemon == daemon, reversed(streak(tries, NETWORK))))[::-1]


def standing(tries: Sequence[Attempt], limits: Limits, daemon: str) -> Closed | Open:
    """Whether an attempt is closed, and if not, which try comes next and when.

    `daemon` is who asks; for those who only look ("") that is the daemon that tried last. Results and
    configuration failures close; unknown failures are tried twice; infrastructure failures `limits.retries`
    times more, with a back-off that doubles and starts afresh in a new daemon. A network is waited for with
    the same back-off until `limits.wait_network` seconds after the asking daemon first missed it; when they
    are over there is one last try. Room on a disk is waited for with the same back-off and without end.
    """
    counted = unknown = 0
    ordered = _ordered(tries)
    for attempt in ordered:
        if attempt.outcome_class in ("result", "configuration"):
            return Closed(attempt)
        if attempt.outcome_class == "unknown":
            unknown += 1
        elif attempt.outcome not in (None, NETWORK, ROOM) and attempt.pattern not in FREE_PATTERNS:
            counted += 1
    if not ordered:
        return Open(1)
    last = ordered[-1]
    if unknown >= UNKNOWN_TRIES or counted > limits.retries:
        return Closed(last, used_up=True)
    if last.outcome == NETWORK:
        return _without_network(last, network_streak(ordered, daemon or last.daemon), limits.wait_network)
    if last.outcome == ROOM:
        counted = len(streak(ordered, ROOM))
    not_before_s = 0.0
    if last.daemon == daemon and last.outcome_class == "infrastructure" and last.pattern not in FREE_PATTERNS:
        not_before_s = last.ended_monotonic_s + _back_off_s(counted)
    return Open(last.try_number + 1, not_before_s, last.reason)


def _without_network(
    last: Attempt, streak: Sequence[Attempt], wait_s: float | Literal["forever"]
) -> Closed | Open:
    """How an attempt stands whose last try found no network; `streak` is empty in a new daemon."""
    if not streak:
        return Open(last.try_number + 1, 0.0, last.reason)
    pause_s = max(_back_off_s(len(streak)), last.retry_after_s or 0.0)
    not_before_s = last.ended_monotonic_s + pause_s
    if wait_s != "forever":
        waited_s = last.ended_monotonic_s - streak[0].ended_monotonic_s
        if waited_s >= wait_s:
            return Closed(last, used_up=True, waited_s=waited_s)
        not_before_s = min(not_before_s, streak[0].ended_monotonic_s + wait_s)
    return Open(last.try_number + 1, not_before_s, last.reason)


def _back_off_s(failures: int) -> float:
    """The pause after so many failures, 1 or more."""
    return min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** min(failures - 1, 10))


def _ordered(tries: Sequence[Attempt]) -> list[Attempt]:
    return sorted(tries, key=lambda attempt: attempt.try_number)
