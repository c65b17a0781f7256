"""Bare variant names: which there are, and what each stands for."""

from __future__ import annotations

from typing import Any

import pytest

from fsearch.plan import PlanError, Variant
from fsearch.plan.variant import parse_name

from .plan_texts import edit, read

NAMES: dict[str, dict[str, Any]] = {
    "scalar_l8": {"layer_start": 8},
    "scalar_l12": {"layer_start": 12},
    "scalar_l10_norm_detach": {"layer_start": 10},
    "scalar_l12_norm_detach": {"layer_start": 12},
    "scalar_l6_norm_detach": {"layer_start": 6},
    "scalar_l8_norm_detach": {"layer_start": 8},
    "scalar_l10_norm_node": {"layer_start": 10, "detach": False},
    "scalar_l10_nonorm_detach": {"layer_start": 10, "norm": False},
    "scalar_l8_nodetach": {"layer_start": 8, "detach": False, "alpha_lr": 5e-4},
    "scalar_l10_nodetach": {"layer_start": 10, "detach": False, "alpha_lr": 5e-4},
    "scalar_l10_sched_cos": {"layer_start": 10, "schedule": "cosine"},
    "scalar_l12_sched_cos": {"layer_start": 12, "schedule": "cosine"},
    "scalar_l8_sched_cos": {"layer_start": 8, "schedule": "cosine"},
    "scalar_l6_sched_cos": {"layer_start": 6, "schedule": "cosine"},
    "scalar_l10_trainable": {"layer_start": 10, "alpha_lr": 5e-4},
    "scalar_l8_trainable": {"layer_start": 8, "alpha_lr": 5e-4},
    "scalar_l6_trainable": {"layer_start": 6, "alpha_lr": 5e-4},
    "head_l10": {"gate": "head", "layer_start": 10},
    "head_l8": {"gate": "head", "layer_start": 8},
    "head_l6": {"gate": "head", "layer_start": 6},
    "inputgate_l10": {"gate": "input", "layer_start": 10},
    "scalar_l8_a2": {"layer_start": 8, "alpha": -2.0},
    "scalar_l8_a3": {"layer_start": 8, "alpha": -3.0},
    "scalar_l6_a4": {"layer_start": 6, "alpha": -4.0},
    "scalar_l8_a3_sched_cos": {"layer_start": 8, "alpha": -3.0, "schedule": "cosine"},
    "scalar_l8_sched_cos_a3": {"layer_start": 8, "alpha": -3.0, "schedule": "cosine"},
    "head_l1_nodetach_a1": {
        "gate": "head",
        "layer_start": 1,
        "alpha": -1.0,
        "detach": False,
        "alpha_lr": 5e-4,
    },
}
BARE = {
    "gate": "scalar",
    "alpha": -2.0,
    "alpha_lr": 0.0,
    "scale": 1.0,
    "schedule": "none",
    "schedule_min": 0.4,
    "schedule_max": 1.0,
    "norm": True,
    "detach": True,
    "clip": 1.0,
    "compat": None,
    "stream": 0,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_name_means_its_fields(name: str) -> None:
    """Alpha -2 fixed, norm, detach, clip 1, scale 1, no schedule, unless the suffix says otherwise."""
    assert parse_name(name).model_dump() == {"name": name, **BARE, **NAMES[name]}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "scalar",
        "scalar_l",
        "scalar_lx",
        "scalar_l-1",
        "scalar_l8_",
        "scalar_l8__a2",
        "scalar_l8_a",
        "scalar_l8_a-2",
        "scalar_l8_a2.5",
        "scalar_l8_ainf",
        "scalar_l8_alpham4",
        "scalar_l10_sched",
        "scalar_l8_sched_lin",
        "scalar_l8_norm",
        "scalar_l8_detach",
        "scalar_l8 a2",
        "scalar_l8\n",
        "scalar_l12345",
        "SCALAR_L8",
        "head8",
        "vector_l8",
        "no_fs_l8",
    ],
)
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    """No name is guessed at."""
    with pytest.raises(ValueError):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "field", "suffixes"),
    [
        ("scalar_l8_a2_a3", "alpha", ("_a2", "_a3")),
        ("scalar_l8_a3_sched_cos_a2", "alpha", ("_a3", "_a2")),
        ("scalar_l8_norm_detach_nodetach", "detach", ("_norm_detach", "_nodetach")),
        ("head_l8_nonorm_detach_norm_node", "norm", ("_nonorm_detach", "_norm_node")),
    ],
)
def test_a_name_that_says_two_things_is_refused(name: str, field: str, suffixes: tuple[str, str]) -> None:
    """The last suffix does not win: the sentence names the field and both."""
    one, other = suffixes
    with pytest.raises(ValueError, match=f"two things of {field}, with {one} and with {other}; keep one"):
        parse_name(name)


@pytest.mark.parametrize("name", ["scalar_l8_nodetach_trainable", "scalar_l8_norm_node_nodetach"])
def test_suffixes_that_say_the_same_may_stand_together(name: str) -> None:
    """As they do in names of the drafts."""
    assert parse_name(name).alpha_lr == 5e-4


def test_a_refused_name_shows_the_grammar() -> None:
    """The message says which names there are and how to write anything else."""
    with pytest.raises(PlanError) as caught:
        read(edit("- scalar_l1\n", "- scalar_l8_sched\n"))
    message = caught.value.problems[0].message
    for part in ("'_sched'", "_sched_cos", "MINUS k", "{name: strong"):
        assert part in message


def test_an_input_gate_learns_by_its_name() -> None:
    """`inputgate_l10`: alpha -2 fixed, weights and bias at 5e-4."""
    it = parse_name("inputgate_l10")
    assert (it.alpha, it.alpha_lr, it.weight_lr, it.bias_lr) == (-2.0, 0.0, 5e-4, 5e-4)


def test_compat_drafts_stands_for_their_head_gate() -> None:
    """Both logits -3, the scalar one fixed, the head's at 5e-4; what is written beside it is taken."""
    theirs = Variant(name="theirs", gate="head", layer_start=10, compat="drafts")
    assert (theirs.alpha, theirs.alpha_lr, theirs.alpha_head, theirs.alpha_head_lr) == (-3.0, 0.0, -3.0, 5e-4)
    other = Variant(name="other", gate="head", compat="drafts", alpha=-2.0, alpha_head=-4.0)
    assert (other.alpha, other.alpha_head) == (-2.0, -4.0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gate": "input", "weight_lr": 1e-3},
        {"gate": "input", "bias_lr": 0.0},
        {"gate": "head", "compat": "drafts", "alpha_head": -2.0, "alpha_head_lr": 0.0},
    ],
)
def test_a_variant_written_out_is_read_again(fields: dict[str, Any]) -> None:
    """What a variant is written as is the variant; fields of other gates stand there only if they differ."""
    it = Variant.model_validate({"name": "v", **fields})
    written = it.model_dump(mode="json")
    assert Variant.model_validate(written) == it
    assert written.keys() == {"name", "layer_start", *BARE, *fields}


def test_a_stream_alone_is_the_baseline() -> None:
    """`{name: aa, stream: 1}` seeds nothing; with any other field it is a variant like others."""
    assert Variant.model_validate({"name": "aa", "stream": 1}).gate == "none"
    assert Variant.model_validate({"name": "s", "stream": 1, "alpha": 0.0}).gate == "scalar"
