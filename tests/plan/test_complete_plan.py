"""The complete example of a plan: read into types."""

from __future__ import annotations

from fsearch.plan import Claim, Entry, Largest, Limits, Screen, Stage, expand

from .plan_texts import COMPLETE, GOOD, edit, read


def test_the_complete_example_is_read_whole() -> None:
    """Every field of the example arrives, typed, and nothing else than defaults is added."""
    plan = read(COMPLETE)
    assert (plan.name, plan.seed) == ("protein and punctuation", 0)
    assert plan.model.checkpoint == "models/rwkv7-g1d-0.1b-20260129-ctx8192.pth"
    assert plan.model.init is None
    assert plan.claim == Claim(at_least=0.01, alpha=0.05)
    assert plan.limits == Limits(retries=5, wait_network="forever")
    first, second, third = plan.entries
    assert [entry.task for entry in plan.entries] == ["protein_ss", "punctuation", "mbpp"]
    assert first.arguments["order"] == "q_after"
    assert second.arguments["source"] == "hotpot_qa"
    assert (first.batch, second.batch, third.batch) == ((Largest(),), (2,), (2, 4, 8))
    assert (first.recipe.lr, second.recipe.lr) == ((3.0e-5,), (3.0e-5, 1.0e-4))
    for entry in plan.entries:
        assert entry.recipe.weight_decay == 0.01
        assert entry.stages == (Stage(name="quick", steps=180), Stage(name="medium", steps=560, seeds=5))
        assert entry.screen == Screen(prune_below=0.001, promote_at_most=3, noise_floor_seeds=3)
        assert [v.name for v in entry.variants] == [
            "scalar_l8_sched_cos",
            "scalar_l10_trainable",
            "head_l8",
            "scalar_l12",
        ]
    assert [variant.layer_start for variant in first.variants] == [8, 10, 8, 12]


def test_an_entry_overrides_what_it_names_and_inherits_the_rest() -> None:
    """`train` is merged field by field; stages, screen, variants and evaluate are replaced."""
    own = (
        "batch: 32, n_masks: 8, train: {lr: 0.001}, stages: [{name: only, steps: 9}], "
        "variants: [head_l2], evaluate: {every: 3}"
    )
    inherits, overrides = (read(text).entries[0] for text in (GOOD, edit("batch: 32, n_masks: 8", own)))
    assert overrides.recipe.lr == (0.001,)
    assert overrides.recipe.betas == inherits.recipe.betas == (0.9, 0.98)
    assert overrides.stages == (Stage(name="only", steps=9, seeds=5),)
    assert overrides.screen is None and inherits.screen is not None
    assert [variant.name for variant in overrides.variants] == ["head_l2"]
    assert (overrides.evaluate.every, inherits.evaluate.every) == (3, None)
    assert read(edit("batch: 32, n_masks: 8", own)).entries[1] == read(GOOD).entries[1]


def test_one_stage_without_a_screen_confirms_directly() -> None:
    """A plan of one stage has no screen, and five seeds where it names none."""
    text = edit("  - {name: quick, steps: 180}\n", "")
    text = edit("screen: {prune_below: 0.001, noise_floor_seeds: 2}\n", "", edit(", seeds: 5", "", text))
    entry: Entry = read(text).entries[0]
    assert entry.screen is None
    assert [(stage.steps, stage.seeds) for stage in entry.stages] == [(560, 5)]
    assert {search.screen for search in expand(read(text))} == {None}
