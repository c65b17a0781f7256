"""Many searches over many places, small: every place is busy as long as there is work."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.simulation import plan_of, simulate
from tests.search.test_every_history import findings


def test_places_are_busy_until_the_tail(tmp_path: Path) -> None:
    """More than 95 % until the first finds nothing to do; three times the places take a third of the time
    until then, and find the same."""
    plan = plan_of(16)
    three, among_three = simulate(plan, tmp_path / "3", 3, charge=False)
    nine, among_nine = simulate(plan, tmp_path / "9", 9, charge=False)
    assert findings(among_three) == findings(among_nine)
    assert three.attempts == nine.attempts > 200
    assert three.utilisation > 0.95 and nine.utilisation > 0.95
    assert three.until_tail_s > 2.5 * nine.until_tail_s
