"""Verdicts: the first that holds of five words, after correction over all promoted variants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from statsmodels.stats.multitest import multipletests

from fsearch.search.next_step import standing_of
from fsearch.search.rows import AttemptSpec
from fsearch.search.statistics import paired_t, seeds_needed
from fsearch.search.verdict import verdicts

from .builders import MEDIUM, QUICK, Answer, World, plan_of, words

CLEAR = [0.030, 0.031, 0.032]
SMALL = [0.0050, 0.0060, 0.0055]
HARM = [-0.030, -0.031, -0.032]
NOTHING = [0.0001, -0.0001, 0.0000]
NOISE = [0.09, -0.08, 0.02]


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        (CLEAR, "at_least_delta"),
        (HARM, "worse"),
        (SMALL, "better_than_zero"),
        (NOTHING, "equivalent"),
        (NOISE, "inconclusive"),
    ],
)
def test_the_five_words(differences: list[float], word: str) -> None:
    """Each word from differences that leave no doubt; seeds are still needed where nothing is decided."""
    verdict = verdicts([differences], 0.01, 0.05, provisional=False)[0]
    assert verdict.word == word
    assert verdict.paired == paired_t(differences)
    needed = seeds_needed(paired_t(differences).sd, 0.01, 0.05)
    assert verdict.seeds_needed == (needed if word == "inconclusive" else None)


def test_the_first_word_that_holds_is_said() -> None:
    """A gain above the margin is above zero too; a small certain gain is also equivalent; order decides."""
    above = verdicts([CLEAR], 0.01, 0.05, provisional=False)[0]
    assert above.p_better < above.p_at_least <= 0.05
    small = verdicts([SMALL], 0.01, 0.05, provisional=False)[0]
    assert paired_t(SMALL).p_equivalent(0.01) <= 0.05 and small.word == "better_than_zero"
    slight_harm = verdicts([[-d for d in SMALL]], 0.01, 0.05, provisional=False)[0]
    assert slight_harm.word == "worse"


def test_each_question_is_corrected_over_all_variants() -> None:
    """Holm over the promoted variants, question by question; a variant's order does not matter."""
    family = [CLEAR, SMALL, NOISE, HARM, NOTHING, [0.010, 0.014, 0.021]]
    found = verdicts(family, 0.01, 0.05, provisional=False)
    tests = [paired_t(values) for values in family]
    for name, p_values in (
        ("p_at_least", [test.p_greater(0.01) for test in tests]),
        ("p_better", [test.p_greater() for test in tests]),
    ):
        expected = multipletests(p_values, method="holm")[1]
        assert [getattr(verdict, name) for verdict in found] == pytest.approx(list(expected))
    turned = verdicts(family[::-1], 0.01, 0.05, provisional=False)[::-1]
    assert turned == found


def test_correction_can_take_a_word_back() -> None:
    """What one variant alone would show, eight of the same plan do not."""
    gain = [0.010, 0.014, 0.021]
    alone = verdicts([gain], 0.001, 0.05, provisional=False)[0]
    among = verdicts([gain] + [NOISE] * 7, 0.001, 0.05, provisional=False)[0]
    assert alone.word != "inconclusive" and among.word == "inconclusive"
    assert among.p_better == pytest.approx(8 * alone.p_better)


def test_a_failed_variant_stays_in_the_family() -> None:
    """A promoted variant without all its seeds still counts as a test: losing it makes nothing surer."""
    gain = [0.010, 0.014, 0.021]
    with_silent = verdicts([gain], 0.001, 0.05, promoted=8, provisional=False)
    with_noise = verdicts([gain] + [[0.0, 0.0, 0.0]] * 7, 0.001, 0.05, provisional=False)[:1]
    assert with_silent == with_noise

    def answer(spec: AttemptSpec, number: int) -> Answer:
        if spec.variant == "head_l1_trainable" and spec.stage == "medium" and spec.seed == 3:
            return Answer(outcome="diverged")
        gains = 0.2 if spec.stage == "quick" else CLEAR[spec.seed - 1] if spec.seed else 0.0
        return Answer(score=0.4 + (0.0 if spec.variant == "no_fs" else gains))

    standing = World(plan_of(variants=["scalar_l1", "head_l1_trainable"]), answer).run()
    alone = verdicts([CLEAR], 0.01, 0.05, provisional=False)[0]
    assert list(standing.verdicts) == [(0, "scalar_l1")]
    assert standing.verdicts[0, "scalar_l1"].p_better == pytest.approx(2 * alone.p_better)


def gains(table: dict[str, list[float]], quick_gain: float = 0.25) -> World:
    """Two tasks, both variants promoted; medium differences by task and seed, on moving baselines."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        base = 0.4 + 0.03 * spec.seed
        if spec.variant == "no_fs" or spec.role == "probe":
            return Answer(score=base)
        gain = quick_gain if spec.stage == "quick" else table[f"{spec.task} {spec.variant}"][spec.seed - 1]
        return Answer(score=base + gain)

    tasks = [{"task": "toy", "batch": 4}, {"task": "other", "batch": 4}]
    return World(plan_of(tasks=tasks, variants=["scalar_l1", "head_l1_trainable"]), answer)


TABLE = {
    "toy scalar_l1": CLEAR,
    "toy head_l1_trainable": NOISE,
    "other scalar_l1": SMALL,
    "other head_l1_trainable": HARM,
}


def test_the_family_is_the_whole_plan() -> None:
    """Variants of all searches are corrected together, by their matched differences on fresh seeds."""
    standing = gains(TABLE).run()
    keys = [(0, "scalar_l1"), (0, "head_l1_trainable"), (1, "scalar_l1"), (1, "head_l1_trainable")]
    expected = verdicts(list(TABLE.values()), 0.01, 0.05, provisional=False)
    assert list(standing.verdicts) == keys
    assert words(standing) == {key: verdict.word for key, verdict in zip(keys, expected, strict=True)}
    for key, verdict in zip(keys, expected, strict=True):
        found = standing.verdicts[key]
        assert found.p_better == pytest.approx(verdict.p_better)
        assert found.paired.mean == pytest.approx(verdict.paired.mean)


def test_a_verdict_is_provisional_until_the_plan_has_ended() -> None:
    """It appears with the variant's last seed, and is final when no test can join its family."""
    world = gains(TABLE)
    seen = []
    while True:
        standing = standing_of(world.plan, world.facts, world.record)
        if standing.finished:
            break
        seen.append({key for key, verdict in standing.verdicts.items() if verdict.provisional})
        assert seen[-1] == set(standing.verdicts)
        world.step()
    assert sorted(len(keys) for keys in seen) == [len(keys) for keys in seen]
    assert {len(keys) for keys in seen} == {0, 1, 2, 3}
    assert not any(verdict.provisional for verdict in standing.verdicts.values())
    assert len(standing.verdicts) == 4


def test_a_variant_with_missing_seeds_has_no_verdict() -> None:
    """Three of five seeds are no verdict of five: who fails on the way is out of the family."""
    world = gains(TABLE)
    said = world.answer

    def answer(spec: AttemptSpec, number: int) -> Answer:
        lost = (spec.task, spec.variant, spec.stage, spec.seed) == ("toy", "head_l1_trainable", "medium", 3)
        return Answer("diverged", None, "loss is nan") if lost else said(spec, number)

    standing = replace(world, answer=answer).run()
    assert (0, "head_l1_trainable") not in standing.verdicts and len(standing.verdicts) == 3
    entry = standing.boards[0].variants[1]
    assert entry.exit == "failed" and len(entry.pairs) == 2


def test_five_seeds_are_the_default() -> None:
    """A confirming stage that names no seeds has five."""
    stage = {name: value for name, value in MEDIUM.items() if name != "seeds"}
    world = World(
        plan_of(stages=[QUICK, stage]),
        lambda spec, number: Answer(score=0.5 + 0.1 * bool(spec.variant != "no_fs")),
    )
    standing = world.run()
    assert standing.verdicts[0, "scalar_l1"].paired.n == 5
