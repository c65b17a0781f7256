"""One form for what is one variant, different forms for what is not, and static no-ops by reason."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsearch.plan import Variant, canonical, noop_reason, parse
from fsearch.plan.variant import parse_name, schedule_multiplier, sort_out
from fsearch.tasks import schemas

ROOT = Path(__file__).parents[2]
BASELINE_FORM = {"gate": "none", "stream": 0}


def variant(**fields: Any) -> Variant:
    return Variant(**{"name": "v", **fields})


def test_the_form_of_the_bare_name() -> None:
    """Every field that training reads stands in the form, and nothing else."""
    assert canonical(parse_name("scalar_l1"), 3) == {
        "gate": "scalar",
        "alpha": -2.0,
        "alpha_lr": 0.0,
        "layers": {"1": 1.0, "2": 1.0},
        "norm": True,
        "detach": True,
        "clip": 1.0,
        "stream": 0,
    }
    assert canonical(None, 3) == BASELINE_FORM


@pytest.mark.parametrize("n_layer", [3, 4, 12])
def test_linear_is_cosine_where_two_or_three_layers_are_seeded(n_layer: int) -> None:
    """Both schedules agree at their ends and in the middle, and differ with four layers."""

    def forms(seeded: int) -> list[dict[str, Any]]:
        start = n_layer - seeded
        return [
            canonical(variant(layer_start=start, schedule=schedule), n_layer)
            for schedule in ("linear", "cosine")
        ]

    for seeded in range(1, n_layer):
        linear, cosine = forms(seeded)
        assert (linear == cosine) == (seeded <= 3)


def test_the_schedules_are_those_of_their_formula() -> None:
    """From layer 8 of 12 with 0.4..1.0: linear 0.4, 0.6, 0.8, 1.0; cosine 0.4, 0.55, 0.85, 1.0."""
    for schedule, expected in (("linear", [0.4, 0.6, 0.8, 1.0]), ("cosine", [0.4, 0.55, 0.85, 1.0])):
        form = canonical(variant(layer_start=8, schedule=schedule), 12)
        assert list(form["layers"]) == ["8", "9", "10", "11"]
        assert list(form["layers"].values()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("layer_start", [1, 0, -1, -999])
def test_layer_start_below_one_means_one(layer_start: int) -> None:
    """Layer 0 has nothing below it."""
    for schedule in ("none", "linear", "cosine"):
        fields = {"schedule": schedule}
        clamped = canonical(variant(layer_start=layer_start, **fields), 5)
        assert clamped == canonical(variant(layer_start=1, **fields), 5)
        assert "0" not in clamped["layers"]


@pytest.mark.parametrize(
    "same",
    [
        {"name": "other label"},
        {"schedule": "linear", "schedule_min": 1.0, "schedule_max": 1.0},
        {"schedule": "none", "schedule_min": 0.1},
        {"scale": 2.0, "schedule": "cosine", "schedule_min": 0.5, "schedule_max": 0.5},
        {"alpha": -2},
        {"gate": "head"},
    ],
)
def test_what_trains_the_same_has_one_form(same: dict[str, Any]) -> None:
    """Labels, unused fields and other spellings of one factor do not matter."""
    fields = {"layer_start": 2, **same}
    if "name" in fields:
        fields["name"] = "other"
    assert canonical(variant(**fields), 6) == canonical(variant(layer_start=2), 6)


@pytest.mark.parametrize(
    "different",
    [
        {"alpha": -2.5},
        {"alpha_lr": 1e-4},
        {"layer_start": 3},
        {"scale": 0.5},
        {"schedule": "cosine"},
        {"norm": False},
        {"detach": False},
        {"clip": None},
        {"clip": 2.0},
        {"stream": 1},
    ],
)
def test_what_trains_differently_has_another_form(different: dict[str, Any]) -> None:
    """Every field that training reads is told apart."""
    fields = {"layer_start": 2, **different}
    assert canonical(variant(**fields), 6) != canonical(variant(layer_start=2), 6)


INPUT = {"gate": "input"}
DRAFTS = {"gate": "head", "compat": "drafts"}


def test_the_forms_of_the_input_gate_and_of_the_drafts_hold_what_they_learn() -> None:
    """What only some gates have stands in their forms, under their names, and in no other form."""
    scalar = canonical(variant(), 3)
    head = {**scalar, "gate": "head", "alpha": -3.0}
    trained = {"alpha": -3.0, "alpha_lr": 0.01}
    assert canonical(variant(gate="head", **trained), 3) == {**head, **trained}
    assert canonical(variant(**INPUT), 3) == {**scalar, "gate": "input", "weight_lr": 5e-4, "bias_lr": 5e-4}
    assert canonical(variant(**DRAFTS), 3) == {**head, "alpha_head": -3.0, "alpha_head_lr": 5e-4}


@pytest.mark.parametrize(
    ("fields", "different"),
    [
        (INPUT, {"weight_lr": 1e-3}),
        (INPUT, {"bias_lr": 1e-3}),
        (INPUT, {"weight_lr": 0.0}),
        (INPUT, {"alpha": -3.0}),
        (DRAFTS, {"alpha_head": -2.0}),
        (DRAFTS, {"alpha_head_lr": 0.0}),
        (DRAFTS, {"alpha": -2.0}),
        (DRAFTS, {"compat": None, "alpha": -3.0}),
    ],
)
def test_the_new_gates_are_told_apart(fields: dict[str, Any], different: dict[str, Any]) -> None:
    """Every field that only some gates have makes another form there."""
    assert canonical(variant(**{**fields, **different}), 6) != canonical(variant(**fields), 6)


def test_an_input_gate_that_learns_nothing_is_a_scalar_gate() -> None:
    """Its weights and bias stay 0: one form, so they are merged and trained once."""
    silent = variant(**INPUT, weight_lr=0.0, bias_lr=0.0, alpha_lr=1e-3)
    assert canonical(silent, 3) == canonical(variant(alpha_lr=1e-3), 3)
    assert [found.same_as for found in sort_out([variant(name="a", alpha_lr=1e-3), silent], 3)] == [None, "a"]


def test_forms_in_older_records_stay() -> None:
    """The ids in records are hashes of forms: those of the committed export are made to the letter."""
    lines = (ROOT / "docs" / "demo" / "seed-0.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["variant"]]
    plan = parse((ROOT / "plans" / "demo.yaml").read_text(), schemas(), "demo.yaml")
    variants = {variant.name: variant for entry in plan.entries for variant in entry.variants}
    assert {row["variant"] for row in rows} >= {*variants, "no_fs"}
    for row in rows:
        variant = variants.get(row["variant"])
        form = canonical(variant, 3)
        if variant and row["outcome"] == "noop":
            form = {"noop": variant.model_dump(mode="json", exclude={"name"})}
        assert json.dumps(form) == json.dumps(row["form"])


def test_minus_zero_is_zero() -> None:
    """`_a0` and `alpha: 0` are one variant: their forms are the same text, not only equal numbers."""
    forms = [canonical(v, 3) for v in (parse_name("scalar_l1_a0"), variant(alpha=0.0))]
    assert json.dumps(forms[0]) == json.dumps(forms[1])


@pytest.mark.parametrize(
    ("fields", "n_layer", "part"),
    [
        ({"layer_start": 3}, 3, "starts at layer 3"),
        ({"layer_start": 12}, 12, "last layer is 11"),
        ({"scale": 0.0}, 3, "zero in every layer"),
        ({"scale": -0.0}, 3, "zero in every layer"),
        ({"schedule": "linear", "schedule_min": 0.0, "schedule_max": 0.0}, 5, "zero in every layer"),
        ({"layer_start": 2, "schedule": "linear", "schedule_max": 0.0}, 3, "zero in every layer"),
        ({}, 1, "one layer"),
        ({"layer_start": 5}, 1, "one layer"),
        ({"gate": "none"}, 3, "baseline under another name"),
    ],
)
def test_a_static_no_op_is_named_with_its_reason(fields: dict[str, Any], n_layer: int, part: str) -> None:
    """What cannot differ from the baseline has the baseline's form, and the reason says why."""
    assert canonical(variant(**fields), n_layer) == BASELINE_FORM
    reason = noop_reason(variant(**fields), n_layer)
    assert reason and part in reason


@pytest.mark.parametrize(
    ("fields", "n_layer"),
    [
        ({"layer_start": 2}, 3),
        ({"scale": -1.0}, 3),
        ({"schedule": "linear", "schedule_min": 0.0}, 3),
        ({"gate": "none", "stream": 1}, 3),
        ({"gate": "none", "stream": 1}, 1),
        ({"scale": 0.0, "stream": 2}, 3),
    ],
)
def test_what_can_differ_is_no_no_op(fields: dict[str, Any], n_layer: int) -> None:
    """One seeded layer is enough; the A/A arm is the baseline on other random streams."""
    assert noop_reason(variant(**fields), n_layer) is None
    assert canonical(variant(**fields), n_layer) != BASELINE_FORM


NUMBERS = st.floats(-1000, 1000, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(
    gate=st.sampled_from(["none", "scalar", "head", "input"]),
    alpha=NUMBERS,
    layer_start=st.integers(-3, 8),
    scale=NUMBERS,
    schedule=st.sampled_from(["none", "linear", "cosine"]),
    ends=st.tuples(NUMBERS, NUMBERS),
    stream=st.integers(0, 2),
    n_layer=st.integers(1, 7),
)
def test_a_form_is_the_variant_layer_by_layer(
    gate: str,
    alpha: float,
    layer_start: int,
    scale: float,
    schedule: str,
    ends: tuple[float, float],
    stream: int,
    n_layer: int,
) -> None:
    """Forms are finite JSON, seed only layers from layer_start on, and no-op is the baseline's form."""
    it = variant(
        gate=gate,
        alpha=alpha,
        layer_start=layer_start,
        scale=scale,
        schedule=schedule,
        schedule_min=ends[0],
        schedule_max=ends[1],
        stream=stream,
    )
    form = canonical(it, n_layer)
    json.dumps(form, allow_nan=False)
    assert (noop_reason(it, n_layer) is not None) == (form == BASELINE_FORM)
    for layer, factor in form.get("layers", {}).items():
        assert max(1, layer_start) <= int(layer) < n_layer
        expected = scale * schedule_multiplier(it, int(layer), n_layer)
        assert factor != 0.0 and math.isclose(factor, expected, abs_tol=1e-11)
