"""The schema for editors takes every packaged plan, and refuses what a person gets wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fsearch.plan import PlanError, json_schema, parse
from fsearch.plan.schema import PlanFields, TaskOptions
from fsearch.plan.variant import Variant
from fsearch.plan.yaml_source import read
from fsearch.tasks import schemas

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "plans").rglob("*.yaml"))
DEMO = (ROOT / "plans" / "demo.yaml").read_text()
SCHEMA = json_schema(schemas())

SMALL = """\
# yaml-language-server: $schema=fsearch-plan.json
name: small
model: {init: {n_layer: 2, n_embd: 16, head_size: 8}}
train: {lr: 1.0e-3}
stages: [{name: only, steps: 10, seeds: 3}]
variants: [scalar_l1]
tasks: [{task: infill, batch: 4}]
"""


def complaints(text: str) -> list[str]:
    """What the schema says of a plan, with the places."""
    data = read(text, "plan.yaml").data
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(SCHEMA).iter_errors(data)
    ]


def test_it_is_a_schema() -> None:
    """Of the dialect that it names; every reference leads somewhere."""
    Draft202012Validator.check_schema(SCHEMA)
    text = json.dumps(SCHEMA)
    assert set(re.findall(r'"#/\$defs/([^"/]+)', text)) <= set(SCHEMA["$defs"])


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_packaged_plans_are_valid(path: Path) -> None:
    """No false alarm."""
    assert complaints(path.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lr: 1.0e-3", "lr: [1.0e-3, 1.0e-4], betas: [0.9, 0.99], grad_clip: null"),
        ("seeds: 3", "seeds: {first: 3, then: 5}"),
        ("batch: 4", "batch: [4, largest, {largest: {at_most: 8}}]"),
        ("batch: 4", "batch: 4, train: {weight_decay: 0}, stages: null, variants: [head_l1_a0]"),
        (
            "[scalar_l1]",
            "[scalar_l1_a3_sched_cos, {name: strong, alpha: 2, clip: null}, {name: aa, stream: 1}]",
        ),
        ("name: small", "name: small\nnotify: [sh, -c, cat]\nlimits: {wait_network: forever}"),
        ("name: small", "name: small\nnotify: ./tell.sh\nlimits: {wait_network: 3.5, memory_mib: null}"),
    ],
)
def test_what_may_be_written_otherwise(old: str, new: str) -> None:
    """Everything that the parser takes in place of a field's plain type."""
    text = SMALL.replace(old, new)
    parse(text, schemas())
    assert text != SMALL and complaints(text) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("name: small", "name: small\nsed: 1", ": Additional properties"),
        ("batch: 4", "batch: 4, n_symbol: 3", "tasks.0: Additional properties"),
        ("batch: 4", "batch: 4, order: q_after", "tasks.0: Additional properties"),
        ("task: infill", "task: infil", "tasks.0.task: "),
        ("batch: 4", "n_masks: 4", "tasks.0: 'batch' is a required property"),
        ("batch: 4", "batch: 0", "tasks.0.batch: "),
        ("batch: 4", "batch: biggest", "tasks.0.batch: "),
        ("batch: 4", "batch: 4, train: {lrr: 1}", "tasks.0.train: Additional properties"),
        ("[scalar_l1]", "[scaler_l1]", "variants.0: "),
        ("[scalar_l1]", "[{name: strong, gate: scaler}]", "variants.0: "),
        ("seeds: 3", "seeds: {first: 3}", "stages.0.seeds: "),
        ("lr: 1.0e-3", "lr: 3", "train.lr: "),
        ("name: small", "name: small\nscreen: {prune_below: 1}", "screen"),
        ("name: small", "name: small\nnotify: []", "notify: "),
        ("{init: {n_layer: 2, n_embd: 16, head_size: 8}}", "{}", "model: "),
    ],
)
def test_what_is_wrong_is_seen(old: str, new: str, place: str) -> None:
    """At the place where it stands; the parser refuses the same."""
    text = SMALL.replace(old, new)
    with pytest.raises(PlanError):
        parse(text, schemas())
    found = complaints(text)
    assert found and any(one.startswith(place) for one in found), found


def test_no_field_is_missing() -> None:
    """Every field of a plan, a variant and a task stands there with its text."""
    options = SCHEMA["$defs"]["TaskOptions"]["properties"]
    described: dict[str, Any] = {
        "a plan": (PlanFields, SCHEMA),
        "a variant": (Variant, SCHEMA["$defs"]["Variant"]),
        **{task: (model, SCHEMA["$defs"][f"task_{task}"]) for task, model in schemas().items()},
    }
    for name, (model, schema) in described.items():
        own = set(model.model_fields) | (set(TaskOptions.model_fields) if name in schemas() else set())
        assert set(schema["properties"]) == own, name
        for field, found in schema["properties"].items():
            shared = found == {"$ref": f"#/$defs/TaskOptions/properties/{field}"}
            assert (options[field] if shared else found).get("description"), (name, field)
