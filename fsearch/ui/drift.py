"""Two runs of one plan side by side: what an older export says, and what the record says now.

Trained attempts are matched by their id, which is a hash of all that decides a result: where two runs of one
attempt differ, it is the machine, the code or the data that differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fsearch.ui.errors import UserError
from fsearch.ui.export import exported
from fsearch.ui.records import export_rows
from fsearch.ui.view import PlanView

NUMBERS = ("score", "loss", "acc_pooled", "screen_score", "steps")
"""What is compared to the digit, with the outcome and the task's metrics."""

Kind = Literal["equal", "changed", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One attempt in both runs. `before` and `after` have the values that differ, by key."""

    id: str
    search: str
    stage: str
    variant: str
    seed: int
    kind: Kind  # open: it has not ended in one of them
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """An attempt of one run alone."""

    id: str
    search: str
    stage: str
    variant: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """A variant whose verdict is another one now; None where there was none, or is none yet."""

    search: str
    variant: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All that differs between an export and the record."""

    against: str  # the file, as it was typed
    compared: tuple[Compared, ...]
    missing: tuple[Alone, ...]  # in the export, not in the record
    new: tuple[Alone, ...]  # in the record, not in the export
    verdicts: tuple[Turned, ...]
    other_fingerprint: int  # of the compared, how many ran under other code, torch, device or data

    def of(self, kind: Kind) -> list[Compared]:
        """The compared attempts of one kind."""
        return [one for one in self.compared if one.kind == kind]

    def as_json(self) -> dict[str, Any]:
        """As in `report --json --against` (docs/report.md)."""
        return {**asdict(self), "equal": len(self.of("equal")), "changed": len(self.of("changed"))}


def drift_of(name: str, views: Sequence[PlanView], plan_names: dict[str, str], *, every_plan: bool) -> Drift:
    """The drift of the record since the export `name`.

    Unless `every_plan`, of its attempts only those of plans that have one in common with the views. Raises
    UserError for a file that is no export of ours, or one of other plans.
    """
    after = {item["id"]: item for item in exported(views, plan_names) if _trained(item)}
    whole = export_rows(name)
    shared = {item["plan"] for item in whole if item["id"] in after}
    if not shared:
        theirs = ", ".join(sorted({f"{item['plan_name']!r} ({item['plan'][:8]})" for item in whole}))
        ours = ", ".join(f"{view.name!r} ({view.id[:8]})" for view in views)
        raise UserError(
            f"{name} has no trained attempt in common with this record: it is of {theirs}, this is {ours}. "
            "Runs are compared by the ids of their attempts, which differ where plan, master seed or "
            "checkpoint do."
        )
    before = {item["id"]: item for item in whole if _trained(item) and (every_plan or item["plan"] in shared)}
    both = [identity for identity in before if identity in after]
    return Drift(
        against=name,
        compared=tuple(_compared(before[identity], after[identity]) for identity in both),
        missing=tuple(_alone(item) for identity, item in before.items() if identity not in after),
        new=tuple(_alone(item) for identity, item in after.items() if identity not in before),
        verdicts=tuple(_turned(before.values(), after.values())),
        other_fingerprint=sum(before[one]["fingerprint"] != after[one]["fingerprint"] for one in both),
    )


def _trained(item: dict[str, Any]) -> bool:
    """Builds, preparations and probes are a machine's own: their ids are hashes of code and machine too."""
    return item["role"] in ("screen", "confirm")


def _alone(item: dict[str, Any]) -> Alone:
    return Alone(**{name: item[name] for name in ("id", "search", "stage", "variant", "seed")})


def _compared(before: dict[str, Any], after: dict[str, Any]) -> Compared:
    """Keys that an older release did not export are not compared."""
    names = [name for name in ("outcome", *NUMBERS) if name in before]
    values = [({name: item[name] for name in names} | _metrics(item)) for item in (before, after)]
    if "metrics" not in before:
        values[1] = {name: value for name, value in values[1].items() if name in values[0]}
    differ = [
        name for name in dict.fromkeys([*values[0], *values[1]]) if values[0].get(name) != values[1].get(name)
    ]
    is_open = before["outcome"] is None or after["outcome"] is None
    return Compared(
        **{name: after[name] for name in ("id", "search", "stage", "variant", "seed")},
        kind="open" if is_open else "changed" if differ else "equal",
        before={name: values[0].get(name) for name in differ},
        after={name: values[1].get(name) for name in differ},
    )


def _metrics(item: dict[str, Any]) -> dict[str, Any]:
    return {f"metrics.{name}": value for name, value in item.get("metrics", {}).items()}


def _turned(before: Iterable[dict[str, Any]], after: Iterable[dict[str, Any]]) -> Iterable[Turned]:
    old, new = _verdicts(before), _verdicts(after)
    for place in dict.fromkeys([*old, *new]):
        if old.get(place) != new.get(place):
            yield Turned(search=place[0], variant=place[1], before=old.get(place), after=new.get(place))


def _verdicts(items: Iterable[dict[str, Any]]) -> dict[tuple[str, str], str | None]:
    """By search and variant; every row of a variant has the same."""
    return {(item["search"], item["variant"]): item["verdict"] for item in items if item["variant"]}
