"""Reading recorded rows: an export of ours, or the records of the drafts; one JSON object a line.

Which of both a file is shows in the keys of its first row. Keys that are not needed are ignored. A line
that cannot be used is a UserError with file, line and what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fsearch.plan import BASELINE_FORM, SCORE
from fsearch.search.outcomes import CLASSES
from fsearch.search.replay import NO_SEED, Recorded
from fsearch.search.rows import Attempt, AttemptSpec, Half, Role
from fsearch.ui.errors import UserError
from fsearch.ui.export import SCHEMA

_BASELINES = ("baseline", "no_fs", "nofs")
"""What the drafts call the run without Future-Seed; `-` and capitals do not matter."""

_ROLES: dict[str, Role] = {"quick": "screen", "med": "confirm", "probe": "probe"}

_OF_SPEC = (
    *("id", "plan", "search", "task", "arguments", "model", "recipe", "batch", "micro_batch"),
    *("stage", "role", "steps", "variant", "form", "seed", "master_seed"),
)
_OF_ATTEMPT = (
    *("try_number", "outcome", "outcome_class", "reason", "score", "screen_score", "metrics"),
    *("screen_metrics", "fingerprint"),
)

Score = Annotated[float, Field(ge=0, le=1)]


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    json.dumps(value, allow_nan=False)  # ValueError: a number that is none
    return value


Mapping = Annotated[dict[str, Any], AfterValidator(_finite)]


class _Row(BaseModel):
    """The keys that are read; all others are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class _DraftsRow(_Row):
    task: str
    stage: Literal["quick", "med", "probe"]
    config: str
    status: Literal["ok", "fail"]
    bsz: Annotated[int, Field(ge=1)]
    best_val_tok_acc: Score | None = None
    error: Any = None
    seed: Annotated[int, Field(ge=0)] | None = None


class _OurRow(_Row):
    id: str
    plan: str
    plan_name: str
    search: str
    task: str
    arguments: Mapping
    model: Mapping
    recipe: Mapping
    batch: int
    micro_batch: int
    stage: str
    role: str
    variant: str
    form: Mapping
    seed: int
    master_seed: int
    try_number: int = Field(alias="try")
    outcome: str | None
    outcome_class: str | None
    reason: str
    score: Score | None
    screen_score: Score | None
    metrics: dict[str, float] = {}
    screen_metrics: dict[str, float] = {}
    completions: Mapping | None = None
    metric: str = SCORE
    decision: Literal["keep", "prune", "promote"] | None
    verdict: str | None
    steps: int
    superseded: bool
    fingerprint: str


Kind = TypeVar("Kind", bound=_Row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The rows of a file that count."""

    name: str  # as it was typed
    drafts: bool
    rows: tuple[Recorded, ...]
    superseded: int  # rows of ours that are kept from other code, data or machine


def read(name: str) -> Records:
    """The rows of a file. Raises UserError."""
    lines = _lines(name)
    drafts = _is_drafts(lines[0][1])
    if not drafts and not _is_ours(lines[0][1]):
        raise UserError(
            f"{name}:{lines[0][0]}: this is neither a row of `fsearch export` nor one of the drafts' records "
            "(task, stage, config, status, bsz, best_val_tok_acc)."
        )
    if drafts:
        rows = [_drafts(_checked(_DraftsRow, name, line, item), line) for line, item in lines]
        return Records(name=name, drafts=True, rows=tuple(rows), superseded=0)
    return _ours(name, [(line, _our_row(name, line, item)) for line, item in lines])


def _lines(name: str) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file with the numbers of their lines; blank lines are skipped."""
    try:
        text = Path(name).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.") from None
    except OSError as error:
        raise UserError(f"{name}: the records cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: this is not UTF-8 text; records are JSON objects, one a line.") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found.append((number, _object(name, number, line)))
    if not found:
        raise UserError(f"{name} has no rows; records are JSON objects, one a line.")
    return found


def _object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = ""
        if number == 1 and "," in line and not line.lstrip().startswith(("{", "[")):
            hint = " It looks like CSV; export without --csv."
        why = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        raise UserError(f"{name}:{number}: this is not a JSON object on one line ({why}).{hint}") from None
    if not isinstance(item, dict):
        raise UserError(f"{name}:{number}: this is a JSON {_kind(item)}; one object a line is needed.")
    return item


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "string", bool: "truth value", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _checked(kind: type[Kind], name: str, line: int, item: dict[str, Any]) -> Kind:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UserError(f"{name}:{line}: {_sentence(problem)}") from None


def _sentence(problem: Any) -> str:
    where, value = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "missing":
        return f"the key {where!r} is missing."
    if where in ("best_val_tok_acc", "score", "screen_score") and isinstance(value, int | float):
        return f"{where} is {value}; a score is a fraction from 0 to 1."
    if problem["type"] == "literal_error":
        return f"{where} is {value!r}; it must be {problem['ctx']['expected']}."
    shown = json.dumps(value, ensure_ascii=False)
    return f"{where} is {shown if len(shown) < 60 else 'wrong'}: {problem['msg'].lower()}."


def _drafts(row: _DraftsRow, line: int) -> Recorded:
    """A row of the drafts as an attempt: what they did not write down is left empty, and equal."""
    is_baseline = row.config.lower().replace("-", "_") in _BASELINES
    failed = row.status == "fail"
    spec = _spec(
        search=row.task,
        task=row.task,
        batch=row.bsz,
        stage=row.stage,
        role=_ROLES[row.stage],
        variant=row.config,
        form=dict(BASELINE_FORM) if is_baseline else {"drafts": row.config},
        seed=NO_SEED if row.seed is None else row.seed,
    )
    attempt = Attempt(
        spec=spec,
        try_number=1,
        sequence=line,
        outcome="crashed" if failed else "completed",
        outcome_class=CLASSES["crashed" if failed else "completed"],
        reason=_short(row.error) if failed else "",
        score=None if failed else row.best_val_tok_acc,
    )
    return Recorded(line=line, attempt=attempt, drafts=True)


def _short(error: Any) -> str:
    """The last line of what may be a whole traceback."""
    lines = str(error or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason was recorded"


def _our_row(name: str, line: int, item: dict[str, Any]) -> _OurRow:
    if item.get("schema") != SCHEMA:
        other = f"schema {item.get('schema')!r}; this release reads schema {SCHEMA}"
        raise UserError(f"{name}:{line}: a row of `fsearch export` is expected here, but this has {other}.")
    return _checked(_OurRow, name, line, item)


def export_rows(name: str) -> list[dict[str, Any]]:
    """The objects of an export of ours, with all their keys: one an attempt id, its last try that counts.

    Raises UserError for any other file.
    """
    lines = _lines(name)
    if _is_drafts(lines[0][1]):
        raise UserError(
            f"{name} has the drafts' records; an export of ours is needed: `fsearch export > FILE`."
        )
    if not _is_ours(lines[0][1]):
        raise UserError(f"{name}:{lines[0][0]}: this is no row of `fsearch export`.")
    by_line = dict(lines)
    rows = [(line, _our_row(name, line, item)) for line, item in lines]
    return [by_line[line] for line, _ in _that_count(rows)]


def _is_drafts(item: dict[str, Any]) -> bool:
    return "config" in item and "schema" not in item


def _is_ours(item: dict[str, Any]) -> bool:
    return {"schema", "role"} <= item.keys()


def _that_count(rows: Sequence[tuple[int, _OurRow]]) -> list[tuple[int, _OurRow]]:
    """One row an attempt id: its last try, where it is not superseded; in the order of the file."""
    last: dict[tuple[str, str], tuple[int, _OurRow]] = {}
    for line, row in rows:
        known = last.get((row.id, row.fingerprint))
        if not row.superseded and (known is None or row.try_number > known[1].try_number):
            last[row.id, row.fingerprint] = (line, row)
    return sorted(last.values(), key=lambda one: one[0])


def _ours(name: str, rows: Sequence[tuple[int, _OurRow]]) -> Records:
    return Records(
        name=name,
        drafts=False,
        rows=tuple(_recorded(line, row) for line, row in _that_count(rows)),
        superseded=sum(row.superseded for _, row in rows),
    )


def _recorded(line: int, row: _OurRow) -> Recorded:
    halves: tuple[Half, ...] = ("screen",)
    if row.role == "confirm":
        halves = ("all",) if row.screen_score is None else ("screen", "confirm")
    evaluate = {} if row.completions is None else {"completions": row.completions}
    spec = _spec(halves=halves, evaluate=evaluate, **{name: getattr(row, name) for name in _OF_SPEC})
    attempt = Attempt(spec=spec, sequence=line, **{name: getattr(row, name) for name in _OF_ATTEMPT})
    return Recorded(
        line=line,
        attempt=attempt.read(row.metric),
        plan_name=row.plan_name,
        decision=row.decision,
        verdict=row.verdict,
    )


def _spec(**known: Any) -> AttemptSpec:
    """A specification of which only this was recorded."""
    texts = dict.fromkeys(("id", "plan", "search_key"), "")
    mappings: dict[str, Any] = {name: {} for name in ("arguments", "model", "recipe", "evaluate")}
    numbers = dict.fromkeys(("micro_batch", "steps", "master_seed"), 0)
    return AttemptSpec(**{"halves": (), **texts, **mappings, **numbers, **known})
