"""YAML text to plain data, with the place of every key and value.

A plan's errors must name their line, so the text is composed into nodes first and the places are
kept beside the data. The accepted YAML is deliberately small: mappings with string keys, lists,
strings, numbers, true/false and null. Anchors, aliases, tags and repeated keys are refused: the
first three because a plan needs none of them, the last because YAML would silently keep one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Where a value stands in the plan: ("tasks", 0, "batch")."""

_LONGEST = 600
"""Characters of a sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a plan: where, in which field, and what to do about it."""

    file: str
    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        what = f"{self.field}: {self.message}" if self.field else self.message
        if len(what) > _LONGEST:  # it quotes something enormous
            what = f"{what[: _LONGEST // 2]} ... {what[-_LONGEST // 2 :]}"
        return f"{self.file}:{self.place.line}:{self.place.column}: {what}"


class PlanError(Exception):
    """A plan that cannot be used. `problems` has one entry a mistake, in the order of the text."""

    def __init__(self, problems: list[Problem]):
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(slots=True)
class Source:
    """A parsed YAML text: `data`, and where its keys and values stand."""

    file: str
    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """The place of the value (or key) at `path`, or of the nearest thing around it."""
        places = [self.keys, self.values] if key else [self.values, self.keys]
        while True:
            for known in places:
                if path in known:
                    return known[path]
            if not path:
                return Place(1, 1)
            path = path[:-1]

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        return Problem(self.file, self.place(path, key=key), field_name(path), message)


def field_name(path: Path) -> str:
    """`("tasks", 0, "batch")` -> `tasks[1].batch`: entries are counted from 1, as people do."""
    name = ""
    for part in path:
        if isinstance(part, int):
            name += f"[{part + 1}]"
        else:
            name += f".{part}" if name else part
    return name


_INT = re.compile(r"[-+]?[0-9]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|nan)$", re.IGNORECASE)
_MAX_DIGITS = 18
_MAX_DEPTH = 32


def read(text: str, file: str) -> Source:
    """The data and places of a YAML text.

    Raises:
        PlanError: not YAML, empty, or outside the accepted subset; names line and column.
    """
    source = Source(file)
    try:
        _check_subset(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise PlanError([_syntax_problem(error, text, file)]) from None
    except yaml.YAMLError as error:
        before = text[: getattr(error, "position", 0)]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        what = str(error).splitlines()[0]
        message = f"this is not text that YAML allows: {what}; save the plan as plain UTF-8 text"
        raise PlanError([Problem(file, place, "", message)]) from None
    if node is None:
        message = "the plan is empty; start from one of the plans in plans/, for example plans/demo.yaml"
        raise PlanError([Problem(file, Place(1, 1), "", message)])
    source.data = _build(node, (), source)
    return source


def _check_subset(text: str, file: str) -> None:
    """Refuses what a plan needs none of where it stands, before anything is made of the text."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        mark, tag = event.start_mark, getattr(event, "tag", None)
        message = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            message = "YAML anchors and aliases (& and *) are not allowed in a plan; write the value out"
        elif tag:
            message = f"YAML tags such as {tag} are not allowed in a plan; write the plain value"
        elif depth > _MAX_DEPTH:
            message = f"more than {_MAX_DEPTH} lists and mappings stand in each other here; a plan needs few"
        if message:
            place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
            raise PlanError([Problem(file, place, "", message)])


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    if "end of stream" in (error.problem or ""):  # what was opened and never closed stands further up
        mark = error.context_mark or mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    lines = text.splitlines()
    line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "\\t" in (error.problem or ""):
        message = "a tab stands where YAML wants spaces; replace it with two spaces"
    else:
        message = "not valid YAML: " + ", ".join(part for part in (error.context, error.problem) if part)
    return Problem(file, place, "", message)


def _build(node: yaml.Node, path: Path, source: Source) -> Any:
    place = Place(node.start_mark.line + 1, node.start_mark.column + 1)
    source.values[path] = place

    def refuse(message: str, at: Place = place) -> PlanError:
        return PlanError([Problem(source.file, at, field_name(path), message)])

    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, refuse)
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*path, index), source) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        at = Place(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise refuse("a key must be a plain word", at)
        key = str(key_node.value)
        if key == "<<":
            raise refuse("YAML merge keys (<<) are not allowed in a plan; write the fields out", at)
        if key in result:
            first = source.keys[(*path, key)]
            raise refuse(f"the key {key!r} stands here twice (first on line {first.line}); keep one", at)
        source.keys[(*path, key)] = at
        result[key] = _build(value_node, (*path, key), source)
    return result


def _scalar(node: yaml.ScalarNode, refuse: Any) -> Any:
    """A scalar by the core rules of YAML 1.2: `3e-5` is a number, `no` and `010` are not surprises."""
    text = str(node.value)
    if node.style in ("'", '"', "|", ">"):
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.match(text):
        if len(text.lstrip("+-")) > _MAX_DIGITS:
            raise refuse(f"the number {text[:20]}... has more than {_MAX_DIGITS} digits")
        return int(text)
    if _FLOAT.match(text):
        number = float(text)
        if math.isinf(number):
            raise refuse(f"the number {text} is too large")
        return number
    if _SPECIAL_FLOAT.match(text):
        raise refuse(
            f"{text} is not allowed in a plan; write a finite number, or null where a field may be off"
        )
    return text
