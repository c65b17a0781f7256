"""The board of a plan's searches as lines: one in full, the others in a line each, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from fsearch.plan import BASELINE
from fsearch.ui.layout import WIDE, columns, cut, paragraph, worded
from fsearch.ui.looking import Looking, open_search
from fsearch.ui.moment import Moment
from fsearch.ui.view import PlanView, SearchView, StageView, VariantView
from fsearch.ui.waits import waiting_words, waits_for
from fsearch.ui.words import (
    NOT_INSPECTED,
    interval,
    operating_card,
    percent,
    points,
    verdict,
    warnings,
)


def board(moment: Moment, view: PlanView, looking: Looking, width: int, room: int | None) -> list[Text]:
    """At most `room` lines, None for all: what does not fit is counted."""
    searches = view.searches
    briefs = columns([_brief(moment, search) for search in searches], "<<<<")
    if room is None:
        return [
            line
            for brief, search in zip(briefs, searches, strict=True)
            for line in (brief, *_variants(moment, search, width), *_notes(search, width))
        ]
    if view.finished and looking.search is None:  # nothing is worked on: every search in its line first
        open_at, inner = 0, []
    else:
        open_at = open_search(moment, looking)
        inner = _variants(moment, searches[open_at], width)
        briefs[open_at] = Text.assemble("> ", briefs[open_at][2:], style="bold")
    free = room - len(briefs) - len(inner)
    if free < 0:
        few = _fewer(inner, searches[open_at], _running(moment, searches[open_at]), room - 1) if inner else []
        return _cut_down(briefs, open_at, few, room)
    shown = {open_at: inner} if inner else {}
    notes = _notes(searches[open_at], width) if inner else []
    if free >= len(notes) > 0:  # else `fsearch report` has them
        shown[open_at], free = inner + notes, free - len(notes)
    # With room to spare, what comes after the open search is shown in full too, then what is before it.
    for at in (*range(open_at, len(searches)), *range(open_at - 1, -1, -1)):
        if at not in shown and free > 1:
            more = _variants(moment, searches[at], width)
            if len(more) <= free:
                shown[at], free = more, free - len(more)
    return [line for at, brief in enumerate(briefs) for line in (brief, *shown.get(at, ()))]


def _cut_down(briefs: list[Text], open_at: int, inner: list[Text], room: int) -> list[Text]:
    """The open search with the neighbours that fit; lines that say how many are hidden take room too."""
    before, after = briefs[:open_at], briefs[open_at + 1 :]
    free = room - 1 - len(inner)
    if free >= len(before) + len(after):
        return [*before, briefs[open_at], *inner, *after]
    free = max(0, free - bool(before) - bool(after))
    num_after = min(len(after), max(free - free // 2, free - len(before)))
    num_before = min(len(before), free - num_after)
    if (hidden := len(before) - num_before) > 1:  # one takes no more room than saying so
        before = [_more(hidden, "searches before"), *before[hidden:]]
    if (hidden := len(after) - num_after) > 1:
        after = [*after[:num_after], _more(hidden, "searches after")]
    return [*before, briefs[open_at], *inner, *after]


def _fewer(inner: list[Text], search: SearchView, running: set[str], room: int) -> list[Text]:
    """The lines of a search that tell most, beside two lines for the other searches."""
    head, baseline, *variants = inner
    kept = max(0, room - 5)
    if len(variants) <= kept + 1:
        return inner
    telling = [_tells(variant, running) for variant in search.variants]
    chosen = sorted(range(len(variants)), key=lambda at: (-telling[at], at))[:kept]
    return [head, baseline, *(variants[at] for at in sorted(chosen)), _more(len(variants) - kept, "variants")]


def _tells(variant: VariantView, running: set[str]) -> int:
    """How much a variant's line tells at this moment."""
    if variant.name in running:
        return 4
    if variant.same_as or variant.verdict == "noop":
        return 0
    return 3 if variant.differences else 2 if variant.verdict is None else 1


def _brief(moment: Moment, search: SearchView) -> list[Text | str]:
    means = [stage.baseline_mean for stage in search.stages if stage.baseline_mean is not None]
    baseline = f"{BASELINE} {percent(means[-1])}" if means else ""
    if search.failed:
        state, found = "failed", search.failed
    elif search.finished:
        state, found = "finished", _confirmed(search) or "nothing confirmed"
    elif search.begun:
        state, found = f"{search.count.done}/{search.count.expected}", ""
    else:
        waiting = waits_for(moment, search)
        state, found = "waiting", waiting_words(waiting) if waiting else ""
        found = found or ("" if search.inspected else NOT_INSPECTED)
    return [Text(search.label, "cyan"), worded(state), baseline, Text(found, "dim")]


def _confirmed(search: SearchView) -> str:
    """The best confirmed variant and how it came out."""
    confirmed = [variant for variant in search.variants if variant.mean is not None and not variant.same_as]
    if not confirmed:
        return ""
    best = max(confirmed, key=lambda variant: variant.mean or 0.0)
    return f"{best.name} {points(best.mean, 1)} {best.verdict or ''}"


def _variants(moment: Moment, search: SearchView, width: int) -> list[Text]:
    """A table: the baseline's scores, then each variant against it."""
    if search.failed or not search.begun:
        return []
    wide = width >= WIDE
    *screens, last = search.stages
    stages = [*(screens if wide else screens[-1:]), last]
    head = ["d_acc, pp", *(stage.name for stage in stages), "95 % interval", "seeds" if wide else "", ""]
    running = _running(moment, search)
    rows: list[list[Text | str]] = [
        [Text(cell, "dim") for cell in head],
        _baseline_row(stages, wide, BASELINE in running),
        *(_variant_row(variant, stages, wide, variant.name in running) for variant in search.variants),
    ]
    return [cut(line, width) for line in columns(rows, "<" + ">" * (len(stages) + 2) + "<", indent=4)]


def _baseline_row(stages: Sequence[StageView], wide: bool, running: bool) -> list[Text | str]:
    """Its mean score in each stage."""
    means = ["" if stage.baseline_mean is None else percent(stage.baseline_mean) for stage in stages]
    confirming = [score for score in stages[-1].baseline_scores.values() if score is not None]
    seeds = f"{len(confirming)}/{stages[-1].seeds}" if confirming else ""
    word = "running" if running else f"{seeds} seeds" if seeds and not wide else ""
    return [Text(cell, "dim") for cell in (BASELINE, *means, "", seeds if wide else "", word)]


def _variant_row(
    variant: VariantView, stages: Sequence[StageView], wide: bool, running: bool
) -> list[Text | str]:
    """Its d_acc in each screening stage, and what its confirmation says."""
    screened = {} if variant.same_as else {one.stage: points(one.d_acc, 1) for one in variant.screens}
    confirmed = variant.mean is not None and not variant.same_as
    return [
        variant.name,
        *(screened.get(stage.name, "") for stage in stages[:-1]),
        points(variant.mean, 1) if confirmed else "",
        interval(variant, 1) if confirmed else "",
        f"{len(variant.differences)}/{variant.seeds_wanted}" if wide and confirmed else "",
        worded("running" if running else verdict(variant)),
    ]


def _running(moment: Moment, search: SearchView) -> set[str]:
    return {row.spec.variant for row in moment.running if row.spec.search == search.label}


def _notes(search: SearchView, width: int) -> list[Text]:
    """What is to be minded in a search, and how its screen errs."""
    lines: list[Text] = []
    for warning in warnings(search) if search.begun else ():
        lines += paragraph(f"warning: {warning}", width, indent=4, style="yellow")
    if search.card is not None:
        lines += paragraph(operating_card(search.card), width, indent=4, style="dim")
    return lines


def _more(number: int, what: str) -> Text:
    return Text(f"    … {number} {what}", "dim")
