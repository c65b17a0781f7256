"""What a person is told when a network fails, and when it is back: once each, however often it is tried."""

from __future__ import annotations

from collections.abc import Sequence

from fsearch.search.outcomes import NETWORK, network_streak
from fsearch.search.rows import Attempt, AttemptSpec


def wanted(spec: AttemptSpec, search: str) -> str:
    """What a preparation, for a search of this label, or an inspection would have read."""
    return str(spec.model["checkpoint"]) if spec.role == "inspect" else f"the data of {search}"


def network_news(before: Sequence[Attempt], row: Attempt) -> str:
    """The sentence for a try that has ended, `before` being those of its attempt before it; "" for none."""
    spec = row.spec
    what = wanted(spec, spec.search)
    missed = bool(network_streak(before, row.daemon))
    if row.outcome == NETWORK and not missed:
        return f"waiting for {what}, trying again at longer and longer intervals: {row.reason}"
    if missed and row.outcome_class in ("result", "configuration"):
        return f"the network is back: {what} could be asked for"
    return ""
