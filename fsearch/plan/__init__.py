"""The plan: its YAML, its fields, its variants and their canonical forms. Imports nothing of ours."""

from fsearch.plan.expand import Search, expand
from fsearch.plan.json_schema import json_schema
from fsearch.plan.metrics import decidable
from fsearch.plan.parse import HUB, Entry, Plan, parse
from fsearch.plan.schema import SCORE, Claim, Largest, Limits, Screen, Stage
from fsearch.plan.variant import BASELINE, BASELINE_FORM, Variant, canonical, noop_reason, sort_out
from fsearch.plan.yaml_source import PlanError, Problem

__all__ = [
    "BASELINE",
    "BASELINE_FORM",
    "HUB",
    "SCORE",
    "Claim",
    "Entry",
    "Largest",
    "Limits",
    "Plan",
    "PlanError",
    "Problem",
    "Screen",
    "Search",
    "Stage",
    "Variant",
    "canonical",
    "decidable",
    "expand",
    "json_schema",
    "noop_reason",
    "parse",
    "sort_out",
]
