"""`fsearch bench daemon` on records that are small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsearch.ui import bench_daemon
from fsearch.ui.cli import parser


def test_figures_of_small_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure is there for both sizes, in the table and in the file, and the records are gone."""
    monkeypatch.setattr(bench_daemon, "SIZES", (2_500, 3_000))
    monkeypatch.setattr(bench_daemon, "REPEATS", 1)
    file = tmp_path / "figures.json"
    state = tmp_path / "state"
    state.mkdir()
    options = parser().parse_args(["bench", "daemon", "--json", str(file), "--state", str(state)])
    assert bench_daemon.answer(options) == 0
    report = json.loads(file.read_text())
    assert [row["attempts"] for row in report["rows"]] == [2_500, 3_000]
    assert 1_500 < report["plan_attempts"] < 2_500
    measured = [name for _, name, _ in bench_daemon._LINES]
    assert all(row[name] > 0.0 for row in report["rows"] for name in (*measured, "record_mib"))
    printed = capsys.readouterr().out
    assert "2,500" in printed and "the next decision, median" in printed
    assert not list(state.glob("bench-*"))
