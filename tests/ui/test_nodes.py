"""What the screens say of a cluster's nodes."""

from __future__ import annotations

from fsearch.ui.node_table import now_table
from fsearch.ui.nodes import NodeUse, nodes_now

PROGRESS = {
    "places": [
        {"place": "b/0", "node": "b", "attempt": "1", "try": 1, "step": 5, "steps": 9},
        {"place": "a/0", "node": "a", "attempt": "2", "try": 1},
        {"place": "a/1", "node": "a"},
    ]
}


def test_the_places_of_a_moment() -> None:
    """Each node with its places, those that work, what it has done, and the queue above; none without."""
    assert [(one.node, one.places, one.busy) for one in nodes_now(PROGRESS)] == [("a", 2, 1), ("b", 1, 1)]
    assert nodes_now({"attempt": "1", "step": 3}) == []
    use = NodeUse(node="a", device="a GPU", tries=12, lost=0, seconds=90.0, energy_mj=None)
    lines = [line.plain for line in now_table(nodes_now(PROGRESS), [use], 3, 80)]
    assert lines[0] == "places: 2 of 3 busy, 3 searches in the queue"
    assert lines[1].split() == ["a", "1", "of", "2", "busy", "12", "attempts,", "1", "min", "30", "s"]
    assert lines[2].split() == ["b", "1", "of", "1", "busy"]
