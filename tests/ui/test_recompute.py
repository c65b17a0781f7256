"""What a search has decided on recomputing layers, and why, where people and scripts look."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fsearch.search.rows import AttemptSpec
from fsearch.ui.export import exported
from fsearch.ui.findings import findings_of
from fsearch.ui.progress import Lines
from fsearch.ui.report import lines
from fsearch.ui.state import looking
from fsearch.ui.view import Snapshot
from tests.ui.commands import fsearch
from tests.ui.record import fill, the_plan

PLAN = """\
name: small
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 5.0e-3, recompute: %s}
stages: [{name: only, steps: 180, seeds: 3}]
variants: [scalar_l1]
tasks: [{task: infill, batch: %s}]
"""

LARGEST = "{largest: {at_most: 32}}"


def fits(spec: AttemptSpec) -> bool:
    """Four examples with layers recomputed."""
    return spec.recompute == "layers" and spec.micro_batch <= 4


@pytest.mark.parametrize(
    ("asked", "batch", "roomy", "said"),
    [
        ("off", "32", True, ""),
        ("layers", "32", True, "layers recomputed"),
        ("auto", "32", True, "layers not recomputed: it fits without"),
        ("auto", "32", False, "layers recomputed: without, not one example fits"),
        ("auto", LARGEST, True, "layers not recomputed: no larger batch fits so"),
        ("auto", LARGEST, False, "layers recomputed: a larger batch fits than without"),
    ],
)
def test_a_report_says_what_was_decided(
    asked: str, batch: str, roomy: bool, said: str, tmp_path: Path
) -> None:
    """In words, in the JSON beside what was asked for, and in every exported recipe."""
    plan, state = the_plan(PLAN % (asked, batch)), tmp_path / "state"
    fill(state, plan, **({} if roomy else {"fits": fits}))
    with looking(state) as reader:
        view = Snapshot(reader, [plan]).view(plan)
        (search,) = findings_of(view, reader).as_json()["searches"]
    told = [line.plain.strip() for line in lines([view], 80) if "recomputed" in line.plain]
    assert told == ([said] if said else [])
    decided = "layers" if said.startswith("layers recomputed") else "off"
    assert search["recompute"] == decided and search["recipe"].get("recompute", "off") == asked
    recipes = [row["recipe"] for row in exported([view], {}) if row["role"] == "confirm"]
    assert {recipe.get("recompute", "off") for recipe in recipes} == {decided} and len(recipes) == 6


def test_a_run_says_which_way_is_probed(tmp_path: Path) -> None:
    """Line by line, and in the status of a probe that runs."""
    plan = the_plan(PLAN % ("auto", "32"))
    fill(tmp_path / "state", plan, fits=fits)
    file = io.StringIO()
    with looking(tmp_path / "state") as reader:
        probes = [row for row in reader.attempts() if row.spec.role == "probe"]
    listener = Lines([plan], Console(file=file, width=100, highlight=False))
    listener.started(tmp_path / "state", "cpu")
    for row in probes:
        listener.attempt_started(row.spec, row.try_number)
        listener.attempt_ended(row, None)
    listener.finished(0)
    told = [" ".join(line.split()) for line in file.getvalue().splitlines() if "batch 32" in line]
    without = sum(row.spec.recompute == "off" for row in probes)
    assert "does not fit" in told[0] and not any("recomputed" in line for line in told[:without])
    assert "does not fit with layers recomputed" in told[without]
    assert any("fits in micro-batches of 4 with layers recomputed" in line for line in told)

    before = 2 + without  # the kernel's build, the data, the probes without
    fill(tmp_path / "live", plan, stop_after=before, running=True, fits=fits)
    status = " ".join(fsearch("status", "--once", "--state", tmp_path / "live", cwd=tmp_path).stdout.split())
    assert "does batch 32 fit with layers recomputed?" in status
