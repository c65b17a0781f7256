"""The nodes of a cluster as lines: what their places do now."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from fsearch.ui.layout import columns
from fsearch.ui.nodes import NodeNow, NodeUse
from fsearch.ui.words import duration


def now_table(now: Iterable[NodeNow], uses: Iterable[NodeUse], queue: int, width: int) -> list[Text]:
    """A line for each node: its places, and what it has done; above them all places, and the queue."""
    nodes = list(now)
    done = {use.node: use for use in uses}
    busy, places = sum(one.busy for one in nodes), sum(one.places for one in nodes)
    waiting = f"{queue} search{'es' * (queue != 1)} in the queue"
    rows: list[list[Text | str]] = []
    for one in nodes:
        use = done.get(one.node)
        work = f"{use.tries} attempts, {duration(use.seconds)}" if use else ""
        rows.append([f"  {one.node}", f"{one.busy} of {one.places} busy", Text(work, "dim")])
    return [Text(f"places: {busy} of {places} busy, {waiting}"), *columns(rows, "<>>", width=width)]
