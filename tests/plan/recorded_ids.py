"""The ids of everything that the packaged plans ask for, in a model of 12 layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsearch.plan import expand, parse
from fsearch.search.ids import digest
from fsearch.search.specs import noop_spec, probe_spec, search_key, stage_spec
from fsearch.tasks import schemas

PLANS = Path(__file__).parents[2] / "plans"


@dataclass(frozen=True)
class Inspected:
    sha256: str = "0123"
    n_layer: int = 12


def ids_of(path: Path) -> dict[str, Any]:
    """Of a plan: its own id, and one hash of all ids that its searches may ask for."""
    plan = parse(path.read_text(encoding="utf-8"), schemas(), f"/plans/{path.relative_to(PLANS).as_posix()}")
    found: list[str] = []
    for search in expand(plan, {plan.checkpoint or "": Inspected()}):
        found += [search_key(search), probe_spec(search, 2, 1000).id]
        for stage in search.stages:
            for variant in (None, *search.variants):
                found += [stage_spec(search, stage, variant, seed, 2, 1000).id for seed in (0, 1)]
        found += [noop_spec(search, search.stages[0], variant).id for variant in search.variants]
    return {"plan": plan.id, "searches": digest(found)}


def packaged() -> dict[str, dict[str, Any]]:
    """The same of every packaged plan, by its path."""
    return {path.relative_to(PLANS).as_posix(): ids_of(path) for path in sorted(PLANS.rglob("*.yaml"))}
