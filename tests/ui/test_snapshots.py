"""What the screens look like. FSEARCH_UPDATE_SNAPSHOTS=1 writes them anew; read the difference."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.text import Text

from fsearch.ui.layout import cut
from fsearch.ui.moment import Moment, moment_of, nothing_yet
from fsearch.ui.screen import screen
from fsearch.ui.state import looking
from fsearch.ui.table import overview, plan_report
from fsearch.ui.view import PlanView, Snapshot
from tests.ui.record import PLAN, fill, the_plan

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = [(80, 24), (140, 40)]


def assert_snapshot(name: str, lines: list[Text], width: int) -> None:
    text = "".join(f"{line.plain.rstrip()}\n" for line in lines)
    too_wide = [line for line in text.splitlines() if len(line) > width]
    assert not too_wide
    file = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("FSEARCH_UPDATE_SNAPSHOTS"):
        file.write_text(text)
    assert text == file.read_text()


def view_of(state: Path) -> PlanView:
    with looking(state) as reader:
        return Snapshot(reader, [the_plan()]).view(the_plan(), reader.example_scores)


def at(moment: Moment, hours: float) -> datetime:
    """Some hours after the daemon started; recording took less than a minute."""
    assert moment.daemon is not None
    return datetime.fromisoformat(moment.daemon.started) + timedelta(hours=hours, minutes=5, seconds=40)


def look(state: Path, monkeypatch: pytest.MonkeyPatch) -> Moment:
    monkeypatch.chdir(state.parent)
    with looking(state) as reader:
        daemon = reader.daemon()
        assert daemon is not None
        return moment_of(reader, state, datetime.fromisoformat(daemon.started))


@pytest.mark.parametrize("width", [80, 140])
def test_report_of_a_finished_plan(whole: Path, width: int) -> None:
    """The whole report: levels, variants, intervals, claims, failures, footnotes."""
    assert_snapshot(f"report-whole-{width}", plan_report(view_of(whole), width), width)


@pytest.mark.parametrize("width", [80, 140])
def test_report_of_an_unfinished_plan(stopped: Path, width: int) -> None:
    """Verdicts before the last search are provisional; nothing is claimed without all seeds."""
    assert_snapshot(f"report-stopped-{width}", plan_report(view_of(stopped), width), width)


@pytest.mark.parametrize("width", [80, 140])
def test_overview_of_several_plans(whole: Path, stopped: Path, width: int) -> None:
    """Several plans take one line a search."""
    assert_snapshot(f"overview-{width}", overview([view_of(whole), view_of(stopped)], width), width)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_status_while_running(live: Path, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running attempt with its step, the open search in full, the others in a line."""
    moment = look(live, monkeypatch)
    lines = screen(moment, at(moment, 3), width, height)
    assert len(lines) <= height
    assert_snapshot(f"status-live-{width}", lines, width)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_status_when_stopped(stopped: Path, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing runs the screen says since when, how far it got, and what to type."""
    moment = look(stopped, monkeypatch)
    lines = screen(moment, at(moment, 3), width, height)
    assert len(lines) <= height
    assert_snapshot(f"status-stopped-{width}", lines, width)


def test_status_after_a_kill(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose process is gone is not called running, whatever the record's last word was."""
    moment = look(live, monkeypatch)
    assert moment.daemon is not None
    dead = replace(moment, life="died", running=())
    assert_snapshot("status-killed-80", screen(dead, at(moment, 3), 80, 24), 80)


def test_status_of_a_finished_plan(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished plan says so and where to read on."""
    moment = look(whole, monkeypatch)
    assert_snapshot("status-whole-80", screen(moment, at(moment, 50), 80, 24), 80)


def test_status_of_an_empty_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing recorded: one sentence with the command that begins."""
    monkeypatch.chdir(tmp_path)
    moment = nothing_yet(tmp_path / "state")
    assert_snapshot("status-empty-80", screen(moment, datetime.now(), 80, 24), 80)


def test_status_of_many_searches_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty searches fit 24 lines: hidden ones are counted on both sides of the open one."""
    rates = ", ".join(f"{k}.0e-4" for k in range(1, 41))
    text = PLAN.split("tasks:")[0] + f"tasks:\n  - {{task: infill, batch: 32, train: {{lr: [{rates}]}}}}\n"
    monkeypatch.setattr("tests.ui.record.BASE", _Same(0.12))
    monkeypatch.setattr("tests.ui.record.EFFECT", _Same({}))
    state = tmp_path / "state"
    fill(state, the_plan(text), stop_after=80, running=True)
    moment = look(state, monkeypatch)
    lines = screen(moment, at(moment, 1), 80, 24)
    assert len(lines) <= 24
    text = "\n".join(line.plain for line in lines)
    before = [int(line.split()[1]) for line in text.splitlines() if "searches before" in line]
    after = [int(line.split()[1]) for line in text.splitlines() if "searches after" in line]
    shown = sum(line.plain.startswith("  infill") for line in lines)
    assert sum(before) + sum(after) + shown == 40
    assert before and after


class _Same(dict[str, object]):
    """A mapping with one value for every key."""

    def __init__(self, value: object):
        self.value = value

    def __getitem__(self, key: str) -> object:
        return self.value


def test_cut_never_exceeds_the_width() -> None:
    """A line that is cut says so and fits."""
    line = cut(Text("x" * 100), 20)
    assert line.cell_len == 20
    assert line.plain.endswith("…")
