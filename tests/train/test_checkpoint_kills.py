"""kill -9 at every point of the writing of checkpoints: what is loaded is whole, the newest there can be."""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path

import torch

from fsearch.system import faults
from fsearch.train import checkpoint

SAVES = 3
REST = dict.fromkeys(checkpoint.PARTS)


def save_until(point: int, path: Path) -> bool:
    """Save some checkpoints in a process that dies at a fault point; whether it did."""
    child = os.fork()
    if child == 0:
        faults.arm(point)
        for step in range(1, SAVES + 1):
            checkpoint.save(path, "me", {**REST, "step": step, "network": torch.full((1000,), float(step))})
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_killed_at_every_point(tmp_path: Path) -> None:
    """Killed before the rename, the one before is loaded; after it, the new one. Then saving goes on."""
    found = []
    for point in count(1):
        path = tmp_path / str(point) / "attempt.pt"
        killed = save_until(point, path)
        state = checkpoint.load(path, "me")
        if state is not None:
            assert torch.equal(state["network"], torch.full((1000,), float(state["step"])))
        found.append(0 if state is None else state["step"])
        assert not save_until(0, path)
        assert sorted(file.name for file in path.parent.iterdir()) == ["attempt.pt", "attempt.pt.previous"]
        if not killed:
            break
    assert found == [0, 1, 1, 2, 2, 3, 3]
