"""What a report is made of beside the view: claims in words, curves, heat maps, costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fsearch.search.rows import Attempt, AttemptSpec
from fsearch.ui.claims import SearchClaims, task_claims
from fsearch.ui.costs import PURPOSES, costs_of
from fsearch.ui.curves import curves_of
from fsearch.ui.findings import Findings, findings_of
from fsearch.ui.rows import Row
from fsearch.ui.state import looking
from fsearch.ui.view import PlanView, Snapshot
from tests.ui.record import fill, the_plan
from tests.ui.test_export import exported


def findings(state: Path) -> Findings:
    with looking(state) as reader:
        return findings_of(Snapshot(reader, [the_plan()]).view(the_plan(), reader.example_values), reader)


@pytest.fixture(scope="module")
def found(whole: Path) -> Findings:
    return findings(whole)


def claims_of(view: PlanView, label: str) -> SearchClaims:
    return next(one for task in task_claims(view) for one in task.searches if one.search == label)


def judged(view: PlanView, label: str, name: str, **changes: Any) -> PlanView:
    """The view with another verdict of one variant."""
    searches = tuple(
        replace(
            search,
            variants=tuple(
                replace(one, **changes) if (search.label, one.name) == (label, name) else one
                for one in search.variants
            ),
        )
        for search in view.searches
    )
    return replace(view, searches=searches)


def test_a_claim_has_its_interval_its_correction_and_its_limits(found: Findings) -> None:
    """The numbers are those of the view; the drafts' delta stands apart, with the matched one beside it."""
    claims = claims_of(found.view, "kv_recall q_after")
    assert "A screen of one seed and 180 steps (quick) chose who went on" in claims.tested
    assert "5 fresh seeds of 560 steps (medium), scored on 512 examples (the confirm half" in claims.tested
    assert "corrected (Holm) over the plan's 5 promoted variants and held against 0.05" in claims.tested
    assert claims.may[0] == (
        "raw_strong_l2 is better than no_fs: +10.55 pp, 95 % interval [+4.15, +16.96], 5 seeds, p 0.010."
    )
    assert claims.may_not[0] == "That raw_strong_l2 gains 5 pp or more: p 0.111."
    assert claims.may_not[-1] == (
        "Anything about other steps, batches, learning rates, models or data than these."
    )
    assert "Anything of wild: a run failed." in claims.may_not
    assert claims.drafts[0] == "raw_strong_l2 +12.39 pp; matched it is +10.55 pp."
    gains = claims_of(found.view, "infill").may[0]
    assert gains.startswith("raw_strong gains at least 5 pp: +63.71 pp, 95 % interval [+63.44, +63.98]")


def test_ties_and_contradictions_are_minded(found: Findings) -> None:
    """A tie to the digit, and a loss that says the opposite."""
    minded = claims_of(found.view, "kv_recall q_first").minded
    assert any("one score to the digit" in sentence for sentence in minded)
    assert "raw_strong: accuracy and loss contradict each other, both beyond the noise." in minded


@pytest.mark.parametrize(
    ("changes", "may", "may_not"),
    [
        ({"verdict": "worse"}, "raw_strong is worse than no_fs: +63.71 pp", None),
        ({"verdict": "equivalent"}, "raw_strong differs from no_fs by less than 5 pp, either way: ", None),
        (
            {"verdict": "inconclusive", "seeds_needed": 23},
            None,
            "That raw_strong helps, or that it does not: +63.71 pp, 95 % interval [+63.44, +63.98], 5 seeds; "
            "about 23 seeds would tell 5 pp from nothing.",
        ),
        (
            {"verdict": "inconclusive", "seeds_needed": 3},
            None,
            "That raw_strong helps, or that it does not: ",
        ),
        ({"verdict": "pruned"}, None, "Anything of raw_strong and scalar_l1: pruned on one seed, "),
        ({"verdict": None}, None, "Anything of raw_strong yet: seeds are missing."),
    ],
)
def test_each_verdict_has_its_sentence(
    found: Findings, changes: dict[str, Any], may: str | None, may_not: str | None
) -> None:
    """What a verdict allows is under one heading, and never under both."""
    claims = claims_of(judged(found.view, "infill", "raw_strong", **changes), "infill")
    for sentence, own, other in ((may, claims.may, claims.may_not), (may_not, claims.may_not, claims.may)):
        if sentence is not None:
            assert any(one.startswith(sentence) for one in own)
            assert not any(one.startswith("raw_strong ") for one in other)


def test_of_what_was_not_done_nothing_is_claimed(found: Findings, stopped: Path) -> None:
    """A search that failed, one that has not begun; and provisional claims say so."""
    failed = claims_of(found.view, "sudoku")
    assert failed.may_not == ("Nothing may be claimed.",)
    assert "12 of 1024 boards could be built" in failed.tested
    view = findings(stopped).view
    assert claims_of(view, "kv_recall q_first").tested == "Nothing has been tested yet."
    infill = claims_of(view, "infill")
    assert infill.may[0].startswith("raw_strong gains at least 5 pp (provisional): ")
    assert infill.minded[0].startswith("Claims are provisional until the plan's last search has its seeds")


def test_every_training_has_its_curve(whole: Path, found: Findings) -> None:
    """Every evaluation of the half that is scored all the way, of every row with a score."""
    scored = {row["id"]: row for row in exported(whole) if row["score"] is not None}
    assert {curve.id for curve in found.curves} == set(scored)
    with looking(whole) as reader:
        for curve in found.curves:
            row = scored[curve.id]
            assert (curve.search, curve.variant, curve.seed) == (row["search"], row["variant"], row["seed"])
            assert curve.decision == row["decision"]
            kept = [one for one in reader.evaluations(curve.id, 1) if one.half == "screen"]
            assert [(one.step, one.score) for one in curve.points] == [(one.step, one.score) for one in kept]
            assert len(kept) == 8


def test_a_curve_without_a_finite_score_is_none(found: Findings) -> None:
    """Nothing to draw is no curve, and no error."""
    assert curves_of(found.view.rows, lambda identity, number: []) == []


def test_costs_are_those_of_every_try(whole: Path, found: Findings) -> None:
    """Seconds and energy summed over the export's tries, outcome by outcome."""
    tries = [
        row
        for row in exported(whole, "--tries")
        if row["role"] in ("probe", "screen", "confirm") and "noop" not in row["form"]
    ]
    for outcome in ("completed", "diverged", "noop"):
        own = [row for row in tries if row["outcome"] == outcome]
        costs = [cost for cost in found.costs if cost.outcome == outcome]
        assert sum(cost.tries for cost in costs) == len(own) > 0
        energy = sum(row["energy_mj"] or 0.0 for row in own)
        assert sum(cost.energy_mj or 0.0 for cost in costs) == pytest.approx(energy)
        timed = [row for row in own if row["seconds"]]
        if len(timed) == len(own):
            seconds = sum(sum(row["seconds"].values()) for row in own)
            assert sum(cost.seconds for cost in costs) == pytest.approx(seconds)
    assert {cost.outcome for cost in found.costs} == {row["outcome"] for row in tries}
    pruned = [row for row in tries if row["decision"] == "prune"]
    (cost,) = [cost for cost in found.costs if cost.purpose == "screen, pruned"]
    assert cost.tries == len(pruned) and cost.seconds == pytest.approx(len(pruned) * (180 / 50 + 0.7))


def test_time_that_nobody_knows_is_not_made_up(found: Findings) -> None:
    """By phases, else from start to end; a try that its daemon's death ended is counted and not timed."""
    times = {"started_at": "2026-01-01T00:00:00.000+00:00", "ended_at": "2026-01-01T00:01:30.500+00:00"}
    row = next(row for row in found.view.rows if row.attempt.spec.role == "confirm")

    def attempt(number: int, **changes: Any) -> Attempt:
        empty = {"seconds": {}, "energy_mj": None, "outcome": "crashed", "try_number": number, **times}
        return replace(row.attempt, **{**empty, **changes})

    tries = (
        attempt(1),
        attempt(2, seconds={"load": 1.0, "train": 2.5}, energy_mj=7.0),
        attempt(3, outcome="interrupted", pattern="daemon died", ended_at="2026-02-01T00:00:00.000+00:00"),
        attempt(4, fingerprint="another"),
        attempt(5, outcome=None),
    )
    costs = {cost.outcome: cost for cost in costs_of([replace(row, attempt=tries[1], tries=tries)])}
    assert list(costs) == ["crashed", "superseded", "interrupted"]
    assert (costs["crashed"].tries, costs["crashed"].seconds, costs["crashed"].energy_mj) == (2, 94.0, 7.0)
    assert (costs["superseded"].seconds, costs["superseded"].untimed) == (90.5, 0)
    interrupted = costs["interrupted"]
    assert (interrupted.tries, interrupted.seconds, interrupted.untimed) == (1, 0.0, 1)
    assert interrupted.energy_mj is None


def test_what_runs_ahead_costs_no_device_time(found: Findings) -> None:
    """Builds, inspections and preparations run beside the device."""

    def spec(row: Row) -> AttemptSpec:
        return row.attempt.spec

    ahead = [row for row in found.view.rows if spec(row).role in ("build", "prepare")]
    assert ahead and costs_of(ahead) == []
    assert {cost.purpose for cost in found.costs} <= set(PURPOSES)


def test_a_grid_is_one_of_at_least_two_by_two(found: Findings) -> None:
    """order x layer of one family; families with one layer, or tasks with one search, have none."""
    (grid,) = found.heat_maps
    assert (grid.task, grid.variants) == ("kv_recall", ("raw_strong", "raw_strong_l2"))
    assert (grid.batches, grid.orders, grid.layers) == ((32,), ("q_after", "q_first"), (1, 2))
    (regimes,) = [one for one in found.view.regimes if one.task == "kv_recall"]
    for row in regimes.rows:
        if row.variant in grid.variants:
            cell = grid.at(32, row.where["order"], row.layer_start)
            assert cell is not None and (cell.mean, cell.low, cell.seeds) == (row.mean, row.low, row.seeds)
    assert grid.at(32, "q_after", 3) is None


def test_rows_of_an_older_environment_are_counted_as_superseded(tmp_path: Path) -> None:
    """What an unfinished search had cost before the code changed is not lost from the sums."""
    state = tmp_path / "state"
    fill(state, the_plan(), stop_after=40, environment="environment-1")
    before = sum(cost.seconds for cost in findings(state).costs)
    fill(state, the_plan(), environment="environment-2", daemon="daemon-2")
    costs = findings(state).costs
    old = [cost for cost in costs if cost.outcome == "superseded"]
    assert 0 < sum(cost.seconds for cost in old) < before
    curves = findings(state).curves
    assert len({curve.id for curve in curves}) == len(curves)
