"""The plan as a JSON Schema, for editors: they complete fields, show their texts and underline mistakes.

Most of it is what pydantic makes of the fields. What a validator accepts beyond a field's type (a number for
a list, a name for a variant, `largest`) is written out here. The schema knows less than `parse`, which has
the last word: it takes every valid plan, and a few that are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fsearch.plan.schema import PlanFields, TaskOptions
from fsearch.plan.variant import NAME_PATTERN

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NULL: Schema = {"type": "null"}
_LR: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_BATCH: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        {"const": "largest"},
        {
            "type": "object",
            "properties": {"largest": {"$ref": "#/$defs/Largest"}},
            "required": ["largest"],
            "additionalProperties": False,
        },
    ]
}
_VARIANTS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [{"type": "string", "pattern": NAME_PATTERN}, {"$ref": "#/$defs/Variant"}]},
}
_WORDS: Schema = {"type": "array", "minItems": 1, "items": {"type": "string"}}


def json_schema(task_schemas: Mapping[str, type[BaseModel]]) -> Schema:
    """The schema of a plan file; `task_schemas` gives each task's argument model by name."""
    models: list[type[BaseModel]] = [PlanFields, TaskOptions, *task_schemas.values()]
    places, found = models_json_schema([(model, "validation") for model in models])
    definitions: dict[str, Schema] = found["$defs"]
    names = {model: place["$ref"].rpartition("/")[2] for (model, _), place in places.items()}
    _write_out(definitions)
    plan, options = definitions.pop("PlanFields"), definitions["TaskOptions"]
    shared = {name: {"$ref": f"#/$defs/TaskOptions/properties/{name}"} for name in options["properties"]}
    entries: dict[str, Schema] = {}
    for task, arguments in task_schemas.items():
        own = definitions.pop(names[arguments])
        named = {"const": task, "description": options["properties"]["task"]["description"]}
        entries[f"task_{task}"] = {
            **own,
            "properties": {**shared, "task": named, **own["properties"]},
            "required": [*options["required"], *own.get("required", ())],
            "additionalProperties": False,
        }
    plan["properties"]["tasks"] |= {"minItems": 1, "items": _entry(list(task_schemas))}
    whole: Schema = {"$schema": DIALECT, "title": "A plan of fsearch", **plan}
    return {**_without_titles(whole), "$defs": _without_titles({**definitions, **entries})}


def _entry(tasks: list[str]) -> Schema:
    """One of `tasks`: which fields there are depends on the task."""
    return {
        "type": "object",
        "required": ["task", "batch"],
        "properties": {"task": {"enum": tasks}},
        "allOf": [
            {
                "if": {"properties": {"task": {"const": task}}, "required": ["task"]},
                "then": {"$ref": f"#/$defs/task_{task}"},
            }
            for task in tasks
        ],
    }


def _write_out(definitions: dict[str, Schema]) -> None:
    """Put what validators accept in the place of what the fields are once they are read."""
    top_up = definitions["TopUp"]
    top_up["required"] = list(top_up["properties"])
    recipe = definitions["Recipe"]
    _replace(recipe, "lr", anyOf=[_LR, {"type": "array", "minItems": 1, "items": _LR}])
    partial = {name: value for name, value in recipe.items() if name != "required"}
    count = {"type": "integer", "minimum": 1, "maximum": 1000}
    _replace(definitions["Stage"], "seeds", anyOf=[count, {"$ref": "#/$defs/TopUp"}, _NULL])
    wait = {"type": "number", "minimum": 0}
    _replace(definitions["Limits"], "wait_network", anyOf=[{"const": "forever"}, wait])
    definitions["Model"]["anyOf"] = [{"required": ["checkpoint"]}, {"required": ["init"]}]
    stages = {"type": "array", "minItems": 1, "maxItems": 3, "items": {"$ref": "#/$defs/Stage"}}
    plan, options = definitions["PlanFields"], definitions["TaskOptions"]
    _replace(plan, "stages", **stages)
    _replace(plan, "variants", **_VARIANTS)
    _replace(plan, "notify", anyOf=[{"type": "string", "minLength": 1}, _WORDS, _NULL])
    _replace(options, "batch", anyOf=[*_BATCH["anyOf"], {"type": "array", "minItems": 1, "items": _BATCH}])
    _replace(options, "train", **partial)
    _replace(options, "stages", anyOf=[stages, _NULL])
    _replace(options, "variants", anyOf=[_VARIANTS, _NULL])


def _replace(model: Schema, field: str, **schema: Any) -> None:
    """Give a field another schema; its text and its default stay."""
    old = model["properties"][field]
    kept = {name: old[name] for name in ("description", "default") if name in old}
    model["properties"][field] = {**schema, **kept}


def _without_titles(schema: Any) -> Any:
    """Without the titles that are the fields' names once more."""
    if isinstance(schema, dict):
        return {
            name: _without_titles(value)
            for name, value in schema.items()
            if name != "title" or not isinstance(value, str) or "$schema" in schema
        }
    return [_without_titles(one) for one in schema] if isinstance(schema, list) else schema
