"""Future-Seed variants: their names, their fields, and the one canonical form of each.

A name is a label. What is hashed, compared and trained is the canonical form, which says what the
variant does to each layer of a model with a known depth: two variants with one form are one
attempt, and a variant whose form is the baseline's is a static no-op. Nothing else in fsearch knows
what makes two variants equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

BASELINE = "no_fs"


def _clip(value: Any) -> Any:
    if isinstance(value, int | float) and value <= 0:
        raise ValueError(f"clip {value} would silence every seed; write null for no clipping")
    return value


_FOR_INPUT = ("weight_lr", "bias_lr")
_FOR_DRAFTS = ("alpha_head", "alpha_head_lr")


class Variant(BaseModel):
    """One way to seed deeper layers; the defaults are those of the bare names."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
    """Label in tables: letters, digits and _ . + -"""
    gate: Literal["none", "scalar", "head", "input"] = "scalar"
    """scalar: one gate a layer; head: one a head, in its place; input: by the prompt; none: no seed."""
    alpha: float = -2.0
    """Logit of the gate at the start: the gate is sigmoid(alpha). With compat: drafts it is -3."""
    alpha_lr: float = Field(default=0.0, ge=0)
    """Learning rate of the gate; 0 keeps it fixed."""
    layer_start: int = 1
    """First seeded layer, counted from 0; layer 0 has nothing below it, so values under 1 mean 1."""
    scale: float = Field(default=1.0, ge=-1000, le=1000)
    """Factor on every seed."""
    schedule: Literal["none", "linear", "cosine"] = "none"
    """How the factor grows from the first seeded layer to the last."""
    schedule_min: float = Field(default=0.4, ge=-1000, le=1000)
    """Where a schedule begins, at the first seeded layer."""
    schedule_max: float = Field(default=1.0, ge=-1000, le=1000)
    """Where it ends, at the last layer."""
    norm: bool = True
    """Divide the captured state by its root mean square, per head."""
    detach: bool = True
    """Stop the gradient at the captured state."""
    clip: Annotated[float | None, BeforeValidator(_clip)] = 1.0
    """Bound on every entry of the seed; null for none."""
    weight_lr: float = Field(default=5e-4, ge=0)
    """Of gate: input alone: learning rate of what weighs the last prompt token, at first 0."""
    bias_lr: float = Field(default=5e-4, ge=0)
    """Of gate: input alone: learning rate of the bias, at first 0."""
    compat: Literal["drafts"] | None = None
    """drafts: the head gate multiplies a scalar gate with logit alpha, as their code had it."""
    alpha_head: float = -3.0
    """Of compat: drafts alone: logit of the head gate at the start."""
    alpha_head_lr: float = Field(default=5e-4, ge=0)
    """Of compat: drafts alone: learning rate of the head gate."""
    stream: int = Field(default=0, ge=0)
    """Above 0: other random streams than the baseline it is matched with (the A/A arm)."""

    @model_validator(mode="before")
    @classmethod
    def _other_defaults(cls, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"name", "stream"}:
            return {**value, "gate": "none"}
        if isinstance(value, dict) and value.get("compat") == "drafts":
            return {"alpha": -3.0, **value}
        return value

    @model_validator(mode="after")
    def _fields_have_a_reader(self) -> Variant:
        if self.compat and self.gate != "head":
            raise ValueError(f"compat: {self.compat} is for gate: head; leave it out with gate: {self.gate}")
        unread = [
            *((name, "gate: input") for name in _FOR_INPUT if self.gate != "input"),
            *((name, "compat: drafts") for name in _FOR_DRAFTS if not self.compat),
        ]
        for name, reader in unread:
            if name in self.model_fields_set:
                raise ValueError(f"{name} is read with {reader} alone; leave it out here")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that came later stand there only if they say something: the ids of older plans stay."""
        fields: dict[str, Any] = handler(self)
        later = {name: type(self).model_fields[name].default for name in (*_FOR_INPUT, *_FOR_DRAFTS)}
        return {name: value for name, value in fields.items() if name not in later or value != later[name]}


_NAME = re.compile(r"(?P<gate>scalar|head|inputgate)_l(?P<layer>\d{1,4})(?P<rest>(_[a-z0-9]+)*)$")
_SUFFIXES: dict[str, dict[str, Any]] = {
    "norm_detach": {"norm": True, "detach": True},
    "nonorm_detach": {"norm": False, "detach": True},
    "norm_node": {"norm": True, "detach": False},
    "nodetach": {"detach": False, "alpha_lr": 5e-4},
    "sched_cos": {"schedule": "cosine"},
    "trainable": {"alpha_lr": 5e-4},
}
NAME_PATTERN = rf"^(scalar|head|inputgate)_l[0-9]{{1,4}}(_(a[0-9]{{1,3}}|{'|'.join(_SUFFIXES)}))*$"
"""Every name that `parse_name` takes, and those that say two things of one field; for editors."""

GRAMMAR = (
    "<scalar|head|inputgate>_l<first seeded layer>, then any of _a<k> (alpha MINUS k), "
    + ", ".join(f"_{suffix}" for suffix in _SUFFIXES)
    + "; anything else is a mapping such as {name: strong, gate: scalar, alpha: 2, norm: false}"
)


def parse_name(name: str) -> Variant:
    """The variant that a bare name stands for, e.g. `scalar_l8_sched_cos`.

    Raises:
        ValueError: the name is not of the grammar, or says two things of one field; says what is meant.
    """
    match = _NAME.match(name)
    if not match:
        raise ValueError(f"{name!r} is not a variant name; a name is {GRAMMAR}")
    fields: dict[str, Any] = {"name": name, "layer_start": int(match["layer"])}
    fields["gate"] = {"scalar": "scalar", "head": "head", "inputgate": "input"}[match["gate"]]
    rest = match["rest"]
    said_by: dict[str, str] = {}
    while rest:
        suffix = next((s for s in _SUFFIXES if rest == f"_{s}" or rest.startswith(f"_{s}_")), None)
        if suffix:
            says = _SUFFIXES[suffix]
        elif minus := re.match(r"_(a(\d{1,3}))(?=_|$)", rest):
            suffix, says = minus[1], {"alpha": -float(minus[2])}
        else:
            raise ValueError(
                f"the end {rest!r} of the variant name {name!r} is not known; a name is {GRAMMAR}"
            )
        for field, value in says.items():
            if fields.get(field, value) != value:
                raise ValueError(
                    f"the variant name {name!r} says two things of {field}, with _{said_by[field]} and with "
                    f"_{suffix}; keep one of them"
                )
            said_by[field] = suffix
        fields.update(says)
        rest = rest[len(suffix) + 1 :]
    return Variant(**fields)


def schedule_multiplier(variant: Variant, layer: int, n_layer: int) -> float:
    """The schedule's factor for one layer, by its place p in 0..1 between the first seeded and the last."""
    if variant.schedule == "none":
        return 1.0
    first = max(1, variant.layer_start)
    last = max(first, n_layer - 1)
    p = 1.0 if last == first else min(max((layer - first) / (last - first), 0.0), 1.0)
    if variant.schedule == "cosine":
        p = 0.5 - 0.5 * math.cos(math.pi * p)
    return variant.schedule_min + (variant.schedule_max - variant.schedule_min) * p


BASELINE_FORM: Mapping[str, Any] = {"gate": "none", "stream": 0}
"""The canonical form of the baseline, in every model."""


@lru_cache(maxsize=4096)
def canonical(variant: Variant | None, n_layer: int) -> dict[str, Any]:
    """The canonical form in a model of `n_layer` layers; None is the baseline.

    Seeded layers stand with their whole factor (scale times schedule, to 12 digits), so schedules
    that give the same factors coincide, and a variant that seeds nothing has the baseline's form. What
    only some gates have stands in their forms only: a gate that learns nothing is a scalar gate.
    Made once, and not to be changed.
    """
    if variant is None:
        return dict(BASELINE_FORM)
    layers: dict[str, float] = {}
    if variant.gate != "none":
        for layer in range(max(1, variant.layer_start), n_layer):
            factor = round(variant.scale * schedule_multiplier(variant, layer, n_layer), 12)
            if factor != 0.0:
                layers[str(layer)] = factor
    if not layers:
        return {"gate": "none", "stream": variant.stream}
    form: dict[str, Any] = {
        "gate": variant.gate,
        "alpha": variant.alpha + 0.0,  # -0.0 and 0.0 are one value and must be one hash
        "alpha_lr": variant.alpha_lr + 0.0,
        "layers": layers,
        "norm": variant.norm,
        "detach": variant.detach,
        "clip": None if variant.clip is None else float(variant.clip),
        "stream": variant.stream,
    }
    if variant.gate == "input" and variant.weight_lr == variant.bias_lr == 0:
        form["gate"] = "scalar"
    elif variant.gate == "input":
        form.update(weight_lr=variant.weight_lr + 0.0, bias_lr=variant.bias_lr + 0.0)
    elif variant.compat == "drafts":
        form.update(alpha_head=variant.alpha_head + 0.0, alpha_head_lr=variant.alpha_head_lr + 0.0)
    elif variant.alpha_lr == 0:
        form["gate"] = "scalar"
    return form


def noop_reason(variant: Variant, n_layer: int) -> str | None:
    """Why this variant cannot differ from the baseline in such a model, or None if it can."""
    if canonical(variant, n_layer) != canonical(None, n_layer):
        return None
    if variant.gate == "none":
        return "it is the baseline under another name"
    if n_layer <= 1:
        return "a model of one layer has no layer to seed"
    if variant.layer_start >= n_layer:
        return f"it starts at layer {variant.layer_start}, but the model's last layer is {n_layer - 1}"
    return "its factor is zero in every layer"


@dataclass(frozen=True, slots=True)
class Sorted:
    """What becomes of a variant in a model before anything is trained; neither of both: it is trained."""

    variant: Variant
    noop: str | None  # why it cannot differ from the baseline
    same_as: str | None  # the earlier variant with the same canonical form


def sort_out(variants: Iterable[Variant], n_layer: int) -> tuple[Sorted, ...]:
    """Static no-ops and coinciding variants of a plan, in its order."""
    return _sort_out(tuple(variants), n_layer)


@lru_cache(maxsize=256)
def _sort_out(variants: tuple[Variant, ...], n_layer: int) -> tuple[Sorted, ...]:
    first_with: dict[str, str] = {}
    found = []
    for variant in variants:
        noop = noop_reason(variant, n_layer)
        name = (
            variant.name if noop else first_with.setdefault(repr(canonical(variant, n_layer)), variant.name)
        )
        found.append(Sorted(variant, noop, None if name == variant.name else name))
    return tuple(found)
