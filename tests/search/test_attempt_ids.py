"""An attempt's id covers what decides its result, and no label."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import Any

import pytest

from fsearch.plan import Search, expand
from fsearch.search.ids import data_key, stream
from fsearch.search.specs import build_spec, confirm_seeds, prepare_spec, probe_spec, search_key, stage_spec

from .builders import MEDIUM, QUICK, World, plan_of, scores, search_of, trained


def ids(*, at_seed: int = 0, micro_batch: int = 4, **changes: Any) -> dict[str, str]:
    """The id of the baseline and of the first variant in each stage of such a plan."""
    search = search_of(**changes)
    return {
        f"{stage.steps} {name}": stage_spec(search, stage, variant, at_seed, micro_batch).id
        for stage in search.stages
        for name, variant in (("baseline", None), ("variant", search.variants[0]))
    }


@pytest.mark.parametrize(
    "labels",
    [
        {"name": "renamed"},
        {"stages": [{**QUICK, "name": "short"}, {**MEDIUM, "name": "long", "seeds": 9}]},
        {"variants": [{"name": "renamed", "layer_start": 0, "alpha": -2}]},
        {"variants": ["scalar_l1", "head_l1_trainable"]},
        {"tasks": [{"task": "toy", "batch": 4, "level": 0}, {"task": "other", "batch": 2}]},
        {"screen": {"prune_below": 0.25, "noise_floor_seeds": 3, "promote_at_most": 1}},
        {"claim": {"at_least": 0.1, "alpha": 0.01}},
        {"limits": {"retries": 0}},
        {"evaluate": {"every": 3}},
    ],
)
def test_labels_and_rules_do_not_enter_an_id(labels: dict[str, Any]) -> None:
    """Names, thresholds, limits, the rest of the plan and the curve's resolution decide no result."""
    assert ids(**labels) == ids()


@pytest.mark.parametrize(
    "deciding",
    [
        {"model": {"init": {"n_layer": 4, "n_embd": 32, "head_size": 8}}},
        {"model": {"init": {"n_layer": 3, "n_embd": 32, "head_size": 16}}},
        {"tasks": [{"task": "other", "batch": 4}]},
        {"tasks": [{"task": "toy", "batch": 4, "level": 1}]},
        {"tasks": [{"task": "toy", "batch": 8}]},
        {"seed": 1},
        *(
            {"train": {"lr": 0.01, name: value}}
            for name, value in {
                "lr": 0.02,
                "weight_decay": 0.02,
                "betas": [0.9, 0.99],
                "grad_clip": None,
                "warmup": 0.1,
                "decay": "cosine",
                "decay_from": 0.4,
                "final_lr": 0.1,
                "precision": "bf16",
            }.items()
        ),
    ],
)
def test_what_decides_a_result_enters_every_id(deciding: dict[str, Any]) -> None:
    """Each of these fields changes the id of the baseline and of the variant, in every stage."""
    assert not set(ids(**deciding).values()) & set(ids().values())


def test_seed_and_micro_batch_enter_every_id() -> None:
    """A micro-batch decides how sums round; rows of unequal ones are never compared."""
    found = [*ids().values(), *ids(at_seed=1).values(), *ids(micro_batch=2).values()]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "variant", ["scalar_l2", "head_l1_trainable", "scalar_l1_a3", {"name": "aa", "stream": 1}]
)
def test_the_variant_enters_its_own_id_alone(variant: Any) -> None:
    """Another variant is another attempt beside the same baseline."""
    plain, other = ids(), ids(variants=[variant])
    assert {key for key in plain if plain[key] != other[key]} == {"20 variant", "60 variant"}


def test_the_steps_of_a_stage_enter_its_ids_alone() -> None:
    """A longer confirmation leaves the screen's rows as they are."""
    plain, longer = ids(), ids(stages=[QUICK, {**MEDIUM, "steps": 70}])
    assert plain["20 variant"] == longer["20 variant"]
    assert plain["60 variant"] != longer["70 variant"]


def test_what_is_scored_at_the_end_enters_an_id() -> None:
    """A screening, a confirming and a single stage of equal steps score other halves."""
    search = search_of(stages=[QUICK, {**MEDIUM, "steps": 20}])
    single = search_of(stages=[{**MEDIUM, "steps": 20}])
    specs = [stage_spec(search, stage, None, 1, 4) for stage in search.stages]
    specs.append(stage_spec(single, single.stages[0], None, 1, 4))
    assert [spec.halves for spec in specs] == [("screen",), ("screen", "confirm"), ("all",)]
    assert len({spec.id for spec in specs}) == 3


def test_a_probe_is_no_training_run() -> None:
    """Not even of two steps at the same micro-batch."""
    search = search_of(stages=[{"name": "only", "steps": 2, "seeds": 3}])
    probe = probe_spec(search, 4)
    training = stage_spec(search, search.stages[0], search.variants[0], 0, 4)
    assert (probe.steps, probe.form, probe.halves) == (training.steps, training.form, training.halves)
    assert probe.id != training.id


def test_confirmation_seeds_are_fresh() -> None:
    """The screen's seed confirms nothing; noise-floor seeds are the first confirmation seeds, other steps."""
    plan = plan_of(screen={"noise_floor_seeds": 2})
    world = World(plan, scores({("quick", "scalar_l1", 0): 0.75}))
    world.run()
    seeds = {
        (stage, name): [s for at, who, s in trained(world) if (at, who) == (stage, name)]
        for stage, name in itertools.product(("quick", "medium"), ("no_fs", "scalar_l1"))
    }
    assert seeds == {
        ("quick", "no_fs"): [0, 1, 2],
        ("quick", "scalar_l1"): [0],
        ("medium", "no_fs"): [1, 2, 3],
        ("medium", "scalar_l1"): [1, 2, 3],
    }
    assert list(confirm_seeds(expand(plan)[0].stages[-1])) == [1, 2, 3]
    trained_ids = [known.spec.id for known in world.rows]
    assert len(set(trained_ids)) == len(trained_ids)


def test_a_plan_goes_on_with_what_another_has_done() -> None:
    """Ids are shared between plans: a renamed, wider plan trains what is new and nothing again."""
    first = World(plan_of(), scores({("quick", "scalar_l1", 0): 0.75}))
    first.run()
    wider = plan_of(
        name="wider",
        variants=[{"name": "old", "layer_start": 1}, "head_l1_trainable"],
        stages=[QUICK, {**MEDIUM, "seeds": 4}],
    )
    second = World(wider, scores({}), rows=list(first.rows))
    second.run()
    new = [(r.spec.stage, r.spec.variant, r.spec.seed) for r in second.rows[len(first.rows) :]]
    assert new == [("quick", "head_l1_trainable", 0), ("medium", "no_fs", 4), ("medium", "old", 4)]


def test_search_keys_tell_searches_apart() -> None:
    """One key a search, the same under other labels, thresholds and variants."""

    def keys(**changes: Any) -> list[str]:
        return [search_key(search) for search in expand(plan_of(**changes))]

    swept = keys(tasks=[{"task": "toy", "batch": [2, 4], "train": {"lr": [0.01, 0.02]}}])
    assert len(set(swept)) == 4
    assert keys() == keys(name="other", variants=["head_l1_trainable"], screen={"prune_below": 0.3})
    assert keys() == [swept[2]]
    assert not set(keys(stages=[MEDIUM])) & set(keys())


def test_builds_and_preparations_are_rows_of_their_own() -> None:
    """A build belongs to an environment, a preparation to a data set and an environment."""
    one, other = search_of(), search_of(tasks=[{"task": "toy", "batch": 4, "level": 1}])
    specs = [build_spec("p", "a"), build_spec("p", "b")]
    specs += [prepare_spec(search, where) for search in (one, other) for where in ("a", "b")]
    assert len({spec.id for spec in specs}) == len(specs)
    assert build_spec("p", "a").id == build_spec("q", "a").id
    faster = replace(one, recipe={**one.recipe, "lr": 0.02}, batch=8)
    assert isinstance(faster, Search) and prepare_spec(faster, "a").id == prepare_spec(one, "a").id


def test_data_depend_on_task_arguments_and_master_seed() -> None:
    """Other recipes and batches train on the same examples."""
    keys = [
        data_key("toy", {"level": 0}, 0),
        data_key("toy", {"level": 1}, 0),
        data_key("other", {"level": 0}, 0),
    ]
    keys.append(data_key("toy", {"level": 0}, 1))
    assert len(set(keys)) == 4


def test_random_streams_are_independent_and_fixed() -> None:
    """Master seed, seed, variant stream and purpose each give another stream, the same on every machine."""
    axes = itertools.product((0, 1, 12), (0, 1, 21), (0, 1), ("init", "order"))
    found = [stream(*axis) for axis in axes]
    assert len(set(found)) == len(found)
    assert all(0 <= value < 2**63 for value in found)
    first_bytes = hashlib.sha256(b"fsearch 3 1 0 order").digest()[:8]
    assert stream(3, 1, 0, "order") == int.from_bytes(first_bytes, "big") // 2
