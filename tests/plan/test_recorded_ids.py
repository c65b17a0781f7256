"""What older releases called a plan and its attempts, this one does too."""

from __future__ import annotations

import json
from pathlib import Path

from tests.plan.recorded_ids import packaged


def test_a_plan_that_generates_nothing_keeps_all_its_ids() -> None:
    """recorded_ids.json was written before plans could generate completions or choose a metric."""
    recorded = json.loads((Path(__file__).parent / "recorded_ids.json").read_text())
    found = packaged()
    assert len(recorded) == 36 and {name: found[name] for name in recorded} == recorded
