"""What stands beside a verdict: the operating card, p values, loss, other questions, regimes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.search.board import Pair
from fsearch.search.examples import bootstrap_interval
from fsearch.search.ids import digest
from fsearch.search.regimes import regimes
from fsearch.search.rows import Attempt, AttemptSpec, DataFact
from fsearch.search.statistics import operating_card, paired_t
from fsearch.ui.example_effects import ScoresOf, effect_of
from fsearch.ui.regime_table import regime_table
from fsearch.ui.state import looking
from fsearch.ui.view import Snapshot, VariantView
from fsearch.ui.words import card_warnings
from tests.search.builders import Answer, World, plan_of
from tests.ui.commands import fsearch
from tests.ui.record import PLAN, the_plan
from tests.ui.test_snapshots import assert_snapshot


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_check_knows_the_noise_of_what_has_run(whole: Path, tmp_path: Path) -> None:
    """The card of each search, from its own noise floor or that of its like; else it is not known yet."""
    (tmp_path / "same.yaml").write_text(PLAN)
    (tmp_path / "like.yaml").write_text(PLAN.replace("seed: 0", "seed: 9"))
    same, like, empty = (
        words_of(fsearch("check", name, "--state", state, cwd=tmp_path).stdout)
        for name, state in (("same.yaml", whole), ("like.yaml", whole), ("same.yaml", tmp_path / "none"))
    )
    card = "operating card: at 1 pp a useless variant passes in 0.3 %, one worth 5 pp is lost in 0.0 %"
    assert f"{card} (noise sd 0.37 pp, 3 runs of this search)" in same
    assert f"{card} (noise sd 0.37 pp, 3 runs of earlier searches of this task)" in like
    assert same.count("runs of") == 3  # sudoku has never trained
    assert same.count("operating card: the noise is not known yet; the noise floor will tell") == 1
    assert empty.count("operating card: the noise is not known yet") == 4
    assert not (tmp_path / "none").exists()


def test_check_warns_of_a_screen_that_is_hardly_one(whole: Path, tmp_path: Path) -> None:
    """A threshold below a quarter of the noise, as the drafts had them."""
    (tmp_path / "low.yaml").write_text(PLAN.replace("prune_below: 0.01", "prune_below: 0.0005"))
    said = words_of(fsearch("check", "low.yaml", "--state", whole, cwd=tmp_path).stdout)
    assert "warning: the threshold of 0.05 pp is below a quarter of the noise (0.37 pp): about half" in said
    assert said.count("warning: the threshold") == 1


def test_a_damaged_record_is_no_fault_of_the_plan(tmp_path: Path) -> None:
    """`check` then knows no noise, and says nothing of the record."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "fsearch.db").write_text("no database")
    (tmp_path / "plan.yaml").write_text(PLAN)
    done = fsearch("check", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "the noise is not known yet" in words_of(done.stdout)


@pytest.mark.parametrize(
    ("prune_below", "sd", "says"),
    [
        (0.001, 0.0225, ["below a quarter", "loses 34.5 %"]),
        (0.001, 0.003, []),
        (0.01, 0.0225, ["loses 50.0 % of the variants worth 1 pp"]),
        (0.004, 0.0225, ["below a quarter", "loses 39.5 %"]),
        (-0.001, 0.0225, ["below a quarter", "loses 31.2 %"]),
        (0.0, 0.01, ["below a quarter"]),
        (0.001, 0.0, ["the noise is not known"]),
    ],
)
def test_warnings_of_a_card(prune_below: float, sd: float, says: list[str]) -> None:
    """A threshold under a quarter of the noise, and a loss of more than a fifth of useful variants."""
    found = card_warnings(operating_card(prune_below, 0.01, sd))
    for warning, part in zip(found, says, strict=True):
        assert part in warning


def variants_of(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{search['label']} {variant['name']}": variant
        for search in plan["searches"]
        for variant in search["variants"]
    }


def test_the_json_of_a_report_has_every_number_of_a_claim(whole: Path) -> None:
    """Corrected and uncorrected p values, the level, seeds, examples, half; both intervals; the loss."""
    (plan,) = json.loads(fsearch("report", "--json", "--state", whole, cwd=whole.parent).stdout)["plans"]
    found = variants_of(plan)["kv_recall q_after raw_strong_l2"]
    test = paired_t(found["differences"])
    assert (found["low"], found["high"]) == pytest.approx((test.low, test.high))
    assert found["p_better_alone"] == pytest.approx(test.p_greater())
    assert found["p_at_least_alone"] == pytest.approx(test.p_greater(0.05))
    assert found["p_better"] >= found["p_better_alone"] and found["level"] == 0.05
    assert found["verdict"] == "better_than_zero"
    assert found["loss"]["mean"] == pytest.approx(-test.mean + 5e-4 + 3e-4) and not found["loss"]["disagrees"]
    assert found["examples"]["low"] < found["examples"]["high"]
    assert [len(found["differences"]), len(found["examples"]["mcnemar"])] == [5, 5]
    search = next(one for one in plan["searches"] if one["label"] == "kv_recall q_first")
    assert (search["half"], search["examples"], search["below_noise"]) == ("confirm", 512, False)
    assert search["card"]["false_keep"] == pytest.approx(0.0031, abs=1e-4)
    assert [(tie["stage"], tie["variants"]) for tie in search["ties"]] == [("quick", ["no_fs", "scalar_l1"])]
    assert variants_of(plan)["kv_recall q_first raw_strong"]["loss"]["disagrees"]
    kv_recall = next(one for one in plan["regimes"] if one["task"] == "kv_recall")
    assert (kv_recall["searches"], kv_recall["rows"][0]["where"]) == (2, {"order": "q_after"})


def first_pairs(state: Path) -> tuple[list[Pair], DataFact, ScoresOf]:
    """The confirmation of one variant of the record, its data, and its examples' scores."""
    with looking(state) as reader:
        attempts, facts = reader.attempts(), reader.facts()
        rows = [row for row in attempts if row.spec.search == "infill" and row.spec.role == "confirm"]
        kept = {
            (row.spec.id, row.try_number, metric): reader.example_values(
                row.spec.id, row.try_number, "confirm", metric
            )
            for row in rows
            for metric in ("score", "whole_answer")
        }
    by_name = {(row.spec.variant, row.spec.seed): row for row in rows}
    pairs = [Pair(by_name["raw_strong", seed], by_name["no_fs", seed]) for seed in range(1, 6)]
    data = next(fact for fact in facts.values() if fact.sha256 == rows[0].fingerprints["data"])
    return pairs, data, lambda id, try_number, half, metric: kept[id, try_number, metric]


def test_the_interval_over_questions_is_made_from_the_record(whole: Path) -> None:
    """Mean share over seeds, documents from the data's fact, draws from the attempts' ids."""
    pairs, data, scores_of = first_pairs(whole)
    found = effect_of(pairs, data, scores_of, "score")
    assert found is not None
    assert (found.examples, found.documents, found.mcnemar) == (512, 256, ())

    def share(row: Attempt) -> Any:
        with looking(whole) as reader:
            scores = reader.example_scores(row.spec.id, row.try_number, "confirm")
        assert scores is not None
        return scores.correct / scores.total

    values = sum(share(pair.row) - share(pair.baseline) for pair in pairs) / 5
    stream = int(digest([row.spec.id for pair in pairs for row in (pair.row, pair.baseline)]), 16)
    assert (found.low, found.high) == bootstrap_interval(values, [i // 2 for i in range(512)], stream)


def test_of_judged_examples_alone(whole: Path) -> None:
    """What is not judged (NaN) counts neither as an example nor as a document."""
    pairs, data, _ = first_pairs(whole)
    rng = np.random.default_rng(0)
    values = {row.spec.id: rng.random(512) for pair in pairs for row in (pair.row, pair.baseline)}
    left_out = rng.permutation(512)[:250]
    for one in values.values():
        one[left_out] = np.nan
    found = effect_of(pairs, data, lambda id, try_number, half, metric: values[id], "f1")
    kept = [i for i in range(512) if i not in set(left_out.tolist())]
    assert found is not None
    assert (found.examples, found.documents) == (262, len({i // 2 for i in kept}))
    mean = sum(values[pair.row.spec.id][kept] - values[pair.baseline.spec.id][kept] for pair in pairs) / 5
    stream = int(digest([row.spec.id for pair in pairs for row in (pair.row, pair.baseline)]), 16)
    assert (found.low, found.high) == bootstrap_interval(mean, [i // 2 for i in kept], stream)


def test_without_scores_or_documents_there_is_no_such_interval(whole: Path) -> None:
    """None is made up: not for data prepared anew, for rows without scores, or for older records."""
    pairs, data, scores_of = first_pairs(whole)
    assert effect_of(pairs, None, scores_of, "score") is None
    assert effect_of([], data, scores_of, "score") is None
    assert effect_of(pairs, replace(data, documents={}), scores_of, "score") is None
    assert effect_of(pairs, replace(data, sha256="another"), scores_of, "score") is None
    short = {**data.documents, "confirm": data.documents["confirm"][:-1]}
    assert effect_of(pairs, replace(data, documents=short), scores_of, "score") is None
    assert effect_of(pairs, data, lambda id, try_number, half, metric: None, "score") is None


def test_only_a_report_looks_at_single_examples(whole: Path) -> None:
    """A status is asked for every second."""
    with looking(whole) as reader:
        view = Snapshot(reader, [the_plan()]).view(the_plan())
    variants: list[VariantView] = [one for search in view.searches for one in search.variants]
    assert all(one.examples is None for one in variants) and any(one.loss for one in variants)


@pytest.mark.parametrize("width", [80, 140])
def test_the_regimes_of_a_sweep(width: int) -> None:
    """A variant that goes both ways, and one that gains at a learning rate that is bad for the baseline."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        lr, q_first = spec.recipe["lr"], spec.arguments["order"] == "q_first"
        level = {0.01: 0.6, 0.04: 0.35}[lr]
        gain = {"no_fs": 0.0, "head_l1": 0.1 - 0.25 * q_first, "scalar_l2": 0.2 if lr == 0.04 else -0.03}
        wobble = {1: -0.01, 3: 0.01}.get(spec.seed, 0.0) * (spec.variant != "no_fs")
        again = spec.arguments["level"] == 1  # nothing but the name of its level differs
        weights = f"{spec.variant} {lr} {spec.seed} {q_first}" if again or not q_first else spec.id
        score = level + gain[spec.variant] + wobble
        return Answer(score=score, screen_score=score, weights=weights)

    places = [{"order": "q_after"}, {"order": "q_first"}, {"order": "q_after", "level": 1}]
    tasks = [{"task": "toy", "batch": 4, **place, "train": {"lr": [0.01, 0.04]}} for place in places]
    screen = {"prune_below": -0.45}
    world = World(plan_of(tasks=tasks, screen=screen, variants=["head_l1", "scalar_l2"]), answer)
    (found,) = regimes(world.run().boards)
    assert_snapshot(f"regimes-{width}", regime_table(found, width), width)
