"""Numbers and findings as people read them: percent, percentage points, ages, and plain sentences.

Pure text; no layout and no colour. Fractions go in, percent comes out, and only here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from fsearch.plan import BASELINE
from fsearch.ui.view import SearchView, VariantView

NOT_INSPECTED = "the checkpoint is not inspected yet"


def percent(fraction: float | None) -> str:
    """A score: `58.5 %`."""
    return "-" if fraction is None else f"{fraction * 100:.1f} %"


def points(fraction: float | None, digits: int = 2) -> str:
    """A difference of scores in percentage points: `+27.70`."""
    return "-" if fraction is None else f"{fraction * 100:+.{digits}f}"


def margin(fraction: float) -> str:
    """A threshold of the plan: `5 pp`."""
    return f"{fraction * 100:g} pp"


def p_value(p: float | None) -> str:
    """A p value: `0.012`, `<0.001`."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def interval(variant: VariantView, digits: int = 2) -> str:
    """The 95 % interval of the mean: `[+57.10, +63.30]`."""
    if variant.low is None or variant.high is None:
        return ""
    return f"[{points(variant.low, digits)}, {points(variant.high, digits)}]"


def duration(seconds: float) -> str:
    """How long something takes: `11.8 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def since(moment: str, now: datetime) -> timedelta:
    """Time since a recorded UTC moment; never negative."""
    return max(timedelta(0), now - datetime.fromisoformat(moment))


def age(moment: str, now: datetime) -> str:
    """How long ago, roughly: `40 s`, `12 min`, `3 h`, `2 days`."""
    seconds = since(moment, now).total_seconds()
    for unit, length in (("days", 2 * 86400), ("h", 7200), ("min", 120)):
        if seconds >= length:
            return f"{int(seconds // {'days': 86400, 'h': 3600, 'min': 60}[unit])} {unit}"
    return f"{int(seconds)} s"


def verdict(variant: VariantView) -> str:
    """One or a few words on where a variant stands."""
    if variant.same_as:
        return f"same as {variant.same_as}"
    if variant.verdict:
        return f"{variant.verdict}, provisional" if variant.provisional else variant.verdict
    if variant.differences:
        return f"confirming {len(variant.differences)}/{variant.seeds_wanted}"
    if variant.screens:
        return "to be confirmed" if variant.screens[-1].decision == "promote" else "kept so far"
    return "waiting"


def names(some: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return some[0] if len(some) == 1 else f"{', '.join(some[:-1])} and {some[-1]}"


def claim(search: SearchView, at_least: float) -> str:
    """What may be claimed of a search, in plain words."""
    if search.failed:
        return "Nothing may be claimed: this search could not be done."
    if not search.begun:
        return "Nothing is known yet." if search.inspected else f"Nothing is known yet: {NOT_INSPECTED}."
    by_word: dict[str, list[str]] = {}
    for variant in search.variants:
        if variant.same_as is None and variant.verdict:
            by_word.setdefault(variant.verdict, []).append(variant.name)
    gain = margin(at_least)
    said = []
    if found := by_word.get("at_least_delta"):
        said.append(f"{_each(found, 'gains', 'gain')} at least {gain} over {BASELINE}.")
    if found := by_word.get("better_than_zero"):
        said.append(f"{names(found)} {_is(found)} better than {BASELINE}, but {gain} are not shown.")
    if found := by_word.get("worse"):
        said.append(f"{names(found)} {_is(found)} worse than {BASELINE}.")
    if found := by_word.get("equivalent"):
        said.append(f"{_each(found, 'differs', 'differ')} from {BASELINE} by less than {gain}.")
    for variant in search.variants:
        if variant.verdict == "inconclusive" and variant.same_as is None:
            seeds = f"about {variant.seeds_needed} seeds"
            said.append(f"{variant.name} is undecided; telling would take {seeds}.")
    if said:
        provisional = any(variant.provisional for variant in search.variants)
        note = " Provisional until the plan's last search has its seeds." if provisional else ""
        return f"With this recipe and {search.stages[-1].steps} steps: {' '.join(said)}{note}"
    if not search.finished:
        return "Nothing may be claimed yet: no variant has all its confirmation seeds."
    return "Nothing may be claimed: no variant was confirmed. That none helps is not shown either."


def _each(some: Sequence[str], one: str, many: str) -> str:
    return f"{some[0]} {one}" if len(some) == 1 else f"{names(some)} each {many}"


def _is(some: Sequence[str]) -> str:
    return "is" if len(some) == 1 else "are"
