"""A plan whose task reads a file: that the file is there is known before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsearch.ui import plans
from fsearch.ui.errors import UserError

PLAN = """\
name: mine
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 1.0e-3}
stages: [{name: only, steps: 10, seeds: 3}]
variants: [scalar_l1]
tasks:
  - {task: sft, batch: 4, data: notes.jsonl, prompt: "{text}", answer: " {topic}"}
  - {task: sft, batch: 4, data: more/notes.csv, prompt: "{text}", answer: " {topic}"}
"""


def test_missing_files_are_told_at_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that is not there is named with its line; the folder is the plan's."""
    folder = tmp_path / "plans"
    (folder / "more" / "notes.csv").mkdir(parents=True)
    (folder / "mine.yaml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        plans.read_runnable("plans/mine.yaml")
    first, second = str(caught.value).splitlines()
    relative = "; the path is relative to the plan file"
    assert first.startswith("plans/mine.yaml:7:33:")
    assert first.endswith(f"tasks[1].data: {folder / 'notes.jsonl'} is not there{relative}")
    assert second.startswith("plans/mine.yaml:8:33:")
    assert second.endswith(f"tasks[2].data: {folder / 'more' / 'notes.csv'} is not a file{relative}")
    (folder / "notes.jsonl").write_text(json.dumps({"text": "Rain.", "topic": "rain"}))
    (folder / "mine.yaml").write_text("\n".join(PLAN.splitlines()[:-1]))
    (entry,) = plans.read_runnable("plans/mine.yaml").plan.entries
    assert entry.arguments["data"] == str(folder / "notes.jsonl")
