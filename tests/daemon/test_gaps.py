"""The gap between two attempts, from what their processes said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsearch.daemon.child import Child
from fsearch.daemon.gaps import Gaps
from fsearch.daemon.logs import Log
from fsearch.system.messages import Reader, send


def said(folder: Path, *phases: tuple[str, float]) -> Child:
    """A worker that has entered some phases at those moments."""
    read, write = os.pipe()
    log = Log(folder / "worker.log")
    child = Child(os.getpid(), Reader(read), log)
    for phase, at_s in phases:
        send(write, {"type": "phase", "phase": phase, "at_s": at_s})
    os.close(write)
    os.close(log.writer)
    child.read()
    os.close(read)
    log.close()
    return child


def gaps_of(children: list[Child]) -> list[float | None]:
    """What each has noted on it when they end one after the other."""
    gaps = Gaps()
    for child in children:
        gaps.ended(child)
    return [child.idle_s for child in children]


def test_a_gap_is_from_the_last_evaluation_to_the_first_step(tmp_path: Path) -> None:
    """Evaluations on the way and at the end are work; before the first attempt nobody knows."""
    first = said(
        tmp_path, ("load", 10.0), ("train", 10.5), ("evaluate", 12.0), ("train", 12.5), ("finish", 20.0)
    )
    second = said(tmp_path, ("load", 20.25), ("train", 20.75), ("evaluate", 30.0), ("finish", 31.0))
    third = said(tmp_path, ("load", 31.125), ("train", 31.25), ("finish", 40.0))
    assert gaps_of([first, second, third]) == [None, 0.75, 0.25]


def test_what_never_came_to_a_step_is_part_of_the_gap(tmp_path: Path) -> None:
    """One that died while it loaded did no work; one that died in training worked until it was missed."""
    first = said(tmp_path, ("load", 1.0), ("train", 2.0), ("finish", 3.0))
    died_loading = said(tmp_path, ("load", 4.0))
    second = said(tmp_path, ("load", 5.0), ("train", 7.0))
    assert gaps_of([first, died_loading, second]) == [None, None, 4.0]
    gaps = Gaps()
    killed, after = said(tmp_path, ("train", 5.0)), said(tmp_path, ("train", 1e12))
    gaps.ended(killed)
    gaps.ended(after)
    assert after.idle_s == pytest.approx(1e12, rel=1e-3) and after.idle_s < 1e12
