"""The drift between two runs as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from fsearch.ui.drift import Alone, Compared, Drift
from fsearch.ui.layout import columns, cut, paragraph
from fsearch.ui.words import points

_MOST = 40
"""Attempts that are listed; --json has all."""

_FRACTIONS = ("score", "acc_pooled", "screen_score")


def drift_lines(drift: Drift, width: int) -> list[Text]:
    """What differs between the export and the record, the sums first."""
    equal, changed, still = drift.of("equal"), drift.of("changed"), drift.of("open")
    lines = [cut(Text(f"drift since {drift.against}", "bold"), width)]
    sums = [
        f"{len(equal)} equal to the digit",
        f"{len(changed)} changed",
        f"{len(drift.missing)} missing",
        f"{len(drift.new)} new",
    ]
    if still:
        sums.append(f"{len(still)} not ended in one of both")
    lines += paragraph(f"{'; '.join(sums)}; {_verdicts(len(drift.verdicts))}.", width, indent=0)
    if drift.other_fingerprint:
        of = f"{drift.other_fingerprint} of the {len(drift.compared)} attempts in both"
        lines += paragraph(f"{of} ran under other code, torch, device or data.", width, indent=0, style="dim")
    if changed:
        rows = [_head("changed", "", "", "what", "then", "now", "difference")]
        rows += [row for one in changed[:_MOST] for row in _changes(one)]
        lines += [Text(), *(cut(line, width) for line in columns(rows, "<<<<>>>")), *_more(changed)]
    if drift.verdicts:
        rows = [_head("verdict changed", "", "then", "now")]
        rows += [
            [one.search, one.variant, one.before or "none", one.after or "none"] for one in drift.verdicts
        ]
        lines += [Text(), *(cut(line, width) for line in columns(rows, "<<<<"))]
    for title, some in (("missing here", drift.missing), ("new here", drift.new)):
        if some:
            rows = [_head(title, "", "", ""), *(_named(one) for one in some[:_MOST])]
            lines += [Text(), *(cut(line, width) for line in columns(rows, "<<<<")), *_more(some)]
    return lines


def _verdicts(count: int) -> str:
    return {0: "no verdict changed", 1: "1 verdict changed"}.get(count, f"{count} verdicts changed")


def _head(*cells: str) -> list[Text | str]:
    return [Text(cell, "dim") for cell in cells]


def _named(one: Alone | Compared) -> list[Text | str]:
    return [one.search or one.stage, one.stage, one.variant, f"seed {one.seed}" if one.variant else ""]


def _changes(one: Compared) -> list[list[Text | str]]:
    """A line for each value that differs, the attempt's name on the first."""
    found: list[list[Text | str]] = []
    name = [one.search or one.stage, one.stage, f"{one.variant} seed {one.seed}" if one.variant else ""]
    for what, after in one.after.items():
        before = one.before[what]
        found.append([*name, what, _value(before), _value(after), _difference(what, before, after)])
        name = ["", "", ""]
    return found


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _difference(what: str, before: Any, after: Any) -> str:
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return ""
    if what in _FRACTIONS:
        return f"{points(after - before)} pp"
    return f"{after - before:+.3g}"


def _more(some: Sequence[object]) -> list[Text]:
    left = len(some) - _MOST
    return [Text(f"  and {left} more; --json has all", "dim")] if left > 0 else []
