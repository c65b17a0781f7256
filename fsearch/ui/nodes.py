"""The nodes of a cluster: what each has done for a plan, and what its places do now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fsearch.search.rows import AHEAD, Attempt
from fsearch.ui.costs import seconds_of
from fsearch.ui.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What one node has done for a plan."""

    node: str
    device: str  # model of its GPU or processor
    tries: int  # that have ended, however
    lost: int  # of these, with the node or the place
    seconds: float
    energy_mj: float | None  # millijoules; None where the device does not say


def nodes_of(rows: Iterable[Row]) -> list[NodeUse]:
    """By name; nothing of a plan that ran on the daemon's own machine alone."""
    by_node: dict[str, list[Attempt]] = {}
    for row in rows:
        for attempt in row.tries:
            ran = attempt.spec.role not in AHEAD and "noop" not in attempt.spec.form
            if ran and attempt.outcome is not None:
                by_node.setdefault(attempt.node, []).append(attempt)
    return [_use(node, by_node[node]) for node in sorted(by_node)] if any(by_node) else []


def _use(node: str, attempts: list[Attempt]) -> NodeUse:
    energy_mj = [one.energy_mj for one in attempts if one.energy_mj is not None]
    return NodeUse(
        node=node or "the daemon's own",
        device=str(attempts[-1].fingerprints.get("device", "")),
        tries=len(attempts),
        lost=sum(one.pattern in ("node lost", "place lost") for one in attempts),
        seconds=sum(seconds_of(one) or 0.0 for one in attempts),
        energy_mj=sum(energy_mj) if energy_mj else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNow:
    """The places of one node at this moment."""

    node: str
    places: int
    busy: int


def nodes_now(progress: Mapping[str, Any]) -> list[NodeNow]:
    """By name, as the daemon said last; nothing where it trains on its own machine."""
    places = progress.get("places", [])
    return [
        NodeNow(
            node=node,
            places=sum(place["node"] == node for place in places),
            busy=sum(place["node"] == node and "attempt" in place for place in places),
        )
        for node in sorted({str(place["node"]) for place in places})
    ]
