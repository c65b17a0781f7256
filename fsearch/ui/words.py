"""Numbers and findings as people read them: percent, percentage points, ages, and plain sentences.

Pure text; no layout and no colour. Fractions go in, percent comes out, and only here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from fsearch.plan import BASELINE
from fsearch.search.screening import Tie
from fsearch.search.statistics import OperatingCard
from fsearch.ui.view import SearchView, VariantView

MUCH_LOST = 0.2
"""Share of useful variants that a screen may lose without a warning."""

MILLIJOULES = 3.6e6
"""Of a watt hour."""

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
    return bounds(variant.low, variant.high, digits)


def bounds(low: float | None, high: float | None, digits: int = 2) -> str:
    """Two ends of an interval in percentage points; nothing where they are not known."""
    if low is None or high is None:
        return ""
    return f"[{points(low, digits)}, {points(high, digits)}]"


def recomputation(search: SearchView) -> str:
    """Whether layers are recomputed, and why; "" while that is open, and where nobody asked for it."""
    asked = search.recipe.get("recompute", "off")
    if asked == "off" or search.recompute is None:
        return ""
    if asked == "layers":
        return "layers recomputed"
    if search.recompute == "layers":
        why = "a larger batch fits than without" if search.largest else "without, not one example fits"
        return f"layers recomputed: {why}"
    return f"layers not recomputed: {'no larger batch fits so' if search.largest else 'it fits without'}"


def operating_card(card: OperatingCard) -> str:
    """How a screen errs: `at 1 pp a useless variant passes in 0.3 %, one worth 5 pp is lost in 0.0 %`."""
    return (
        f"at {margin(card.prune_below)} a useless variant passes in {percent(card.false_keep)}, "
        f"one worth {margin(card.at_least)} is lost in {percent(card.false_prune)}"
    )


def card_warnings(card: OperatingCard) -> list[str]:
    """What to say of a screen that is hardly one."""
    noise = f"{card.sd * 100:.2f} pp"
    found = []
    if card.sd == 0.0:
        found.append(
            "the baselines score the same to the digit on every seed: the noise is not known from them"
        )
    if card.below_noise:
        found.append(
            f"the threshold of {margin(card.prune_below)} is below a quarter of the noise ({noise}): about "
            "half of the useless variants pass"
        )
    if card.false_prune > MUCH_LOST:
        found.append(
            f"at this noise ({noise}) the screen loses {percent(card.false_prune)} of the variants worth "
            f"{margin(card.at_least)}: more validation examples, or a lower threshold, lose fewer"
        )
    return found


def tie(one: Tie) -> str:
    """A score that several rows share to the digit."""
    return (
        f"{names(one.variants)} have one score to the digit ({percent(one.score)}, {one.stage} seed "
        f"{one.seed}) with different losses: the score does not tell them apart"
    )


def warnings(search: SearchView) -> list[str]:
    """What to mind in a search's screen and scores, if anything."""
    reasons: dict[str, list[str]] = {}
    for name, why in search.unavailable.items():
        reasons.setdefault(why, []).append(name)
    missing = [f"{names(some)} {_is(some)} unavailable: {why}" for why, some in reasons.items()]
    return [*missing, *(card_warnings(search.card) if search.card else ()), *map(tie, search.ties)]


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


def memory(mib: float) -> str:
    """Room in memory: `310 MiB`, `1.2 GiB`."""
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def energy(mj: float) -> str:
    """What was taken, from millijoules: `310 J`, `12.4 Wh`, `1.24 kWh`."""
    watt_hours = mj / MILLIJOULES
    if watt_hours < 0.1:
        return f"{mj / 1000:.0f} J"
    return f"{watt_hours:.1f} Wh" if watt_hours < 1000 else f"{watt_hours / 1000:.2f} kWh"


def place(where: dict[str, Any]) -> str:
    """What tells a search from its siblings: `q_after lr=0.0001`."""
    words = []
    for name, value in where.items():
        if isinstance(value, str) and name != "steps":
            words.append(value)
        else:
            words.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return " ".join(words)


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
            more = (variant.seeds_needed or 0) > len(variant.differences)
            needed = f"; telling {gain} from nothing would take about {variant.seeds_needed} seeds"
            said.append(f"{variant.name} is undecided{needed if more else ''}.")
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
