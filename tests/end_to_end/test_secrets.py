"""A run with an access token, against a hub that refuses and sends it back: nothing that is kept has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.runs import attempts, exported, standing
from tests.end_to_end.test_outages import outage_run
from tests.hub import Fault, Hub, tables
from tests.tables import arc
from tests.ui.commands import fsearch

TOKEN = "a-secret-without-a-prefix"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(tables([arc])) as hub:
        yield hub


def test_a_token_is_in_nothing_that_is_kept(tmp_path: Path, kernel_library: Path, hub: Hub) -> None:
    """Record, logs, events, export, report and all that is printed, with a search that failed for it."""
    headers = {"X-Error-Message": f"you sent Bearer {TOKEN}"}
    hub.faults.append(Fault("", "status", status=403, headers=headers))
    run = outage_run(tmp_path, kernel_library, hub)
    run.environment["HF_TOKEN"] = TOKEN
    try:
        run.to_the_end()
    finally:
        run.end()
    assert f"Bearer {TOKEN}" in hub.authorized
    refused, done = standing(run.state, run.plan).boards
    assert "data_refused" in refused.failed and "Bearer [token]" in refused.failed and not done.failed
    assert attempts(run.state)
    shown = [run.output.read_text(), str(exported(run.state, run.plan))]
    for command in (["report"], ["report", "--json"], ["status", "--json"], ["export", "--tries"]):
        done_well = fsearch(*command, "--state", run.state, cwd=tmp_path, HF_TOKEN=TOKEN)
        assert done_well.returncode == 0
        shown.append(done_well.stdout + done_well.stderr)
    assert not any(TOKEN in text for text in shown)
    kept = [path for path in run.state.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert [path for path in kept if TOKEN.encode() in path.read_bytes()] == []
