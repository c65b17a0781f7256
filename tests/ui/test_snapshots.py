"""What the screens look like. FSEARCH_UPDATE_SNAPSHOTS=1 writes them anew; read the difference."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.text import Text

from fsearch.store import Sample
from fsearch.system.process import Usage
from fsearch.ui.layout import cut
from fsearch.ui.looking import Looking, Page
from fsearch.ui.moment import Moment, moment_of, nothing_yet
from fsearch.ui.screen import screen
from fsearch.ui.state import looking
from fsearch.ui.table import overview, plan_report
from fsearch.ui.training import Machine
from fsearch.ui.view import PlanView, Snapshot
from tests.ui.record import PLAN, fill, the_plan

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = [(80, 24), (160, 50)]


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
        return Snapshot(reader, [the_plan()]).view(the_plan(), reader.example_values)


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


def on_cpu(moment: Moment) -> Moment:
    """The same on a machine that is the same everywhere."""
    machine = Machine(name="AMD EPYC 9654", reading=None, energy_mj=None, usage=Usage(0.97, 412.0))
    return replace(moment, machine=machine)


def status(
    name: str, moment: Moment, now: datetime, size: tuple[int, int], where: Looking | None = None
) -> str:
    """Hold a screen to its snapshot; gives its text."""
    width, height = size
    lines = screen(moment, now, width, height, where or Looking())
    assert len(lines) == height
    assert_snapshot(f"status-{name}-{width}", lines, width)
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize("size", SIZES)
def test_status_while_running(live: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The running attempt with step, speed, losses and the baseline's curve, the open search in full, the
    others in a line."""
    moment = on_cpu(look(live, monkeypatch))
    status("live", moment, at(moment, 3), size)


@pytest.mark.parametrize("size", SIZES)
def test_status_on_a_gpu(live: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest reading of the GPU, and the energy that the plan has taken."""
    moment = look(live, monkeypatch)
    reading = Sample(
        offset_s=9.0, utilisation=0.93, memory_mib=21_540.0, power_w=412.4, temperature_c=61.0, energy_mj=3e6
    )
    machine = Machine(name="NVIDIA GeForce RTX 4090", reading=reading, energy_mj=1.234e9, usage=None)
    text = status("gpu", replace(moment, machine=machine), at(moment, 3), size)
    assert "NVIDIA GeForce RTX 4090   93 % busy   21.0 GiB   412 W   61 °C   342.8 Wh so far" in text


@pytest.mark.parametrize("size", SIZES)
def test_status_when_stopped(stopped: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing runs the screen says since when, how much is left, and what to type."""
    moment = look(stopped, monkeypatch)
    status("stopped", moment, at(moment, 3), size)


@pytest.mark.parametrize("size", SIZES)
def test_status_after_a_kill(live: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose process is gone is not called running, whatever the record's last word was."""
    moment = look(live, monkeypatch)
    dead = replace(moment, life="died", running=(), training=None, machine=None)
    status("killed", dead, at(moment, 3), size)


@pytest.mark.parametrize("size", SIZES)
def test_status_of_a_finished_plan(
    whole: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished plan says so and where to read on."""
    moment = look(whole, monkeypatch)
    status("whole", moment, at(moment, 50), size)


@pytest.mark.parametrize("size", SIZES)
def test_status_of_an_empty_state(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing recorded: one sentence with the command that begins."""
    monkeypatch.chdir(tmp_path)
    status("empty", nothing_yet(tmp_path / "state"), datetime.now(), size)


OFFLINE = PLAN.split("tasks:")[0] + (
    "tasks:\n  - {task: infill, batch: 32}\n  - {task: arc, tokenizer: bytes, batch: 4}\n"
)
"""A search that needs a network, beside one that does not."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("training", [True, False])
def test_status_without_a_network(
    tmp_path: Path, size: tuple[int, int], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is waited for is said while another search trains, and with the next try when nothing does."""
    fill(tmp_path / "state", the_plan(OFFLINE), stop_after=12 if training else None, running=True)
    moment = on_cpu(look(tmp_path / "state", monkeypatch))
    text = status("offline-training" if training else "offline", moment, at(moment, 1), size)
    assert "no route to" in text and "for a network" in text


@pytest.mark.parametrize("size", SIZES)
def test_status_of_many_searches_fits(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty searches fit: hidden ones are counted on both sides of the open one, which any of them can be."""
    rates = ", ".join(f"{k}.0e-4" for k in range(1, 41))
    text = PLAN.split("tasks:")[0] + f"tasks:\n  - {{task: infill, batch: 32, train: {{lr: [{rates}]}}}}\n"
    monkeypatch.setattr("tests.ui.record.BASE", _Same(0.12))
    monkeypatch.setattr("tests.ui.record.EFFECT", _Same({}))
    fill(tmp_path / "state", the_plan(text), stop_after=84, running=True)
    moment = on_cpu(look(tmp_path / "state", monkeypatch))
    status("many", moment, at(moment, 1), size)
    assert moment.view is not None
    for search in moment.view.searches:
        where = Looking(search=search.label)
        lines = [line.plain for line in screen(moment, at(moment, 1), *size, where)]
        assert len(lines) == size[1]
        hidden = [
            int(line.split()[1]) for line in lines if "searches before" in line or "searches after" in line
        ]
        shown = sum(line[2:].startswith("infill lr") for line in lines)
        assert sum(hidden) + shown == 40 or size[1] > 40
        assert any(line.startswith(f"> {search.label}") for line in lines)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", ["failures", "help"])
def test_status_pages(live: Path, size: tuple[int, int], page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed and why; the keys and the words."""
    moment = on_cpu(look(live, monkeypatch))
    status(page, moment, at(moment, 3), size, Looking(page=page))


@pytest.mark.parametrize("state", ["live", "stopped", "whole"])
def test_status_fits_whatever_the_size(
    state: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a corner of a telephone to a wall: never a line too many, never one too wide, on every page."""
    moment = look(request.getfixturevalue(state), monkeypatch)
    pages: tuple[Page, ...] = ("searches", "failures", "help")
    for width in (20, 40, 79, 80, 103, 104, 250):
        for height in (3, 9, 14, 23, 24, 29, 30, 90):
            for page in pages:
                for skipped in (0, 1, 9):
                    where = Looking(page=page, skipped=skipped)
                    lines = screen(moment, at(moment, 3), width, height, where)
                    assert len(lines) == height and all(line.cell_len <= width for line in lines)
                    assert lines[-1].plain.startswith("q quit")


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
