"""The status screen as lines, for a width and a height: pure functions of one moment.

The search that is being worked on is shown in full, the others in one line each; what does not fit is
counted, never cut off silently.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from rich.text import Text

from fsearch.plan import BASELINE
from fsearch.ui.layout import bar, columns, cut, paragraph, pulled_apart, worded
from fsearch.ui.moment import Moment
from fsearch.ui.state import shown
from fsearch.ui.view import PlanView, SearchView
from fsearch.ui.words import (
    NOT_INSPECTED,
    age,
    duration,
    interval,
    operating_card,
    percent,
    points,
    since,
    verdict,
    warnings,
)

_STEP = re.compile(r"step (\d+) of (\d+)")
MOST_EVENTS = 4


def screen(moment: Moment, now: datetime, width: int, height: int | None) -> list[Text]:
    """The whole screen; `height` None shows everything."""
    view = moment.view
    if view is None or moment.daemon is None:
        return [
            pulled_apart(Text("fsearch", "bold"), Text(shown(moment.state), "dim"), width),
            Text(),
            *paragraph("Nothing has run here yet. Begin with: fsearch run plans/demo.yaml", width, indent=0),
        ]
    top = [*_head(moment, view, now, width), Text(), *_now(moment, view, now, width), Text()]
    events = _events(moment, now, width)
    room = None if height is None else height - len(top) - len(events)
    lines = [*top, *_board(moment, view, width, room), *events]
    return [cut(line, width) for line in lines]


def _head(moment: Moment, view: PlanView, now: datetime, width: int) -> list[Text]:
    assert moment.daemon is not None
    count = moment.count
    if moment.life == "running":
        state = Text(f"running for {duration(since(moment.daemon.started, now).total_seconds())}", "green")
    else:
        state = Text("finished" if view.finished else "not running", "green" if view.finished else "yellow")
    more = moment.other_plans
    others = f"   and {more} more plan{'s' * (more > 1)}" if more else ""
    title = Text.assemble((view.name, "bold"), (f"   {shown(moment.state)}{others}", "dim"))
    about = "" if view.finished else "about "
    total = f" {count.done} of {about}{count.expected} attempts"
    words = [f"{count.done} done", f"{count.running} running", f"{count.waiting} waiting"]
    words += [f"{count.pruned} variant{'s' * (count.pruned != 1)} pruned", f"{count.failed} failed"]
    counts = Text("   ".join(words), "dim")
    if count.failed:
        counts.stylize("bold red", counts.plain.rindex(words[-1]))
    meter = bar(count.done, count.running, count.expected, width - len(total))
    return [pulled_apart(title, state, width), Text.assemble(meter, total), counts]


def _now(moment: Moment, view: PlanView, now: datetime, width: int) -> list[Text]:
    daemon = moment.daemon
    assert daemon is not None
    if moment.life != "running":
        count = moment.count
        if view.finished:
            when = age(daemon.ended or daemon.beat_at, now)
            sentence = f"Finished {when} ago. `fsearch report` says what was found."
        else:
            how = f"Stopped {age(daemon.ended or daemon.beat_at, now)} ago"
            if moment.life == "died":
                how = f"Nothing is running: killed, last sign of life {age(daemon.beat_at, now)} ago"
            done = f"{count.done} of about {count.expected} attempts are done and kept"
            where = "" if shown(moment.state) == "./state" else f" --state {shown(moment.state)}"
            sentence = f"{how}; {done}. Go on with: fsearch run {shown(Path(moment.path))}{where}"
        return paragraph(sentence, width, indent=0)
    if all(row.spec.role == "prepare" for row in moment.running):
        return paragraph(daemon.step, width, indent=0)
    spec = moment.running[-1].spec
    parts = [spec.search, spec.stage, spec.variant]
    if spec.role in ("screen", "confirm"):
        parts.append(f"seed {spec.seed}")
    since_start = duration(since(moment.running[-1].started_at, now).total_seconds())
    lines = [pulled_apart(Text("  ".join(part for part in parts if part)), Text(since_start, "dim"), width)]
    if step := _STEP.search(daemon.step):
        at, total = int(step[1]), int(step[2])
        words = f" step {at} of {total}"
        lines.append(Text.assemble(bar(at, 0, total, min(40, width - len(words))), words))
    else:
        lines.append(Text(daemon.step.rpartition(": ")[2], "dim"))  # the phase
    return lines


def _board(moment: Moment, view: PlanView, width: int, room: int | None) -> list[Text]:
    searches = view.searches
    open_at = _open(moment, view)
    briefs = columns([_brief(search) for search in searches], "<<<<")
    for at, line in enumerate(briefs):
        if at == open_at and not view.finished:
            line.stylize("bold")
    if room is None:
        return [
            line
            for brief, search in zip(briefs, searches, strict=True)
            for line in (brief, *_variants(moment, search, width), *_notes(search, width))
        ]
    inner, notes = _variants(moment, searches[open_at], width), _notes(searches[open_at], width)
    before, after = briefs[:open_at], briefs[open_at + 1 :]
    free = room - 1 - len(inner) - len(before) - len(after)
    if free >= len(notes):  # else `fsearch report` has them
        inner, free = inner + notes, free - len(notes)
    if free < 0:
        # Not all fit: lines that say how many are hidden take room too.
        free = room - 1 - len(inner) - bool(before) - bool(after)
        if free < 0:
            kept = max(0, len(inner) + free - 1)
            inner, free = [*inner[:kept], _more(len(inner) - max(kept, 1), "variants")], 0
        num_after = min(len(after), max(free - free // 2, free - len(before)))
        num_before = min(len(before), free - num_after)
        if hidden := len(before) - num_before:
            before = [_more(hidden, "searches before"), *before[hidden:]]
        if hidden := len(after) - num_after:
            after = [*after[:num_after], _more(hidden, "searches after")]
    return [*before, briefs[open_at], *inner, *after]


def _open(moment: Moment, view: PlanView) -> int:
    """The search that is worked on: that of the running attempt, else the first that is not finished."""
    labels = [search.label for search in view.searches]
    for row in reversed(moment.running):
        if row.spec.search in labels:
            return labels.index(row.spec.search)
    unfinished = (at for at, search in enumerate(view.searches) if not search.finished)
    return next(unfinished, len(labels) - 1)


def _brief(search: SearchView) -> list[Text | str]:
    means = [stage.baseline_mean for stage in search.stages if stage.baseline_mean is not None]
    baseline = f"{BASELINE} {percent(means[-1])}" if means else ""
    if search.failed:
        state, found = "failed", search.failed
    elif not search.finished:
        state = f"{search.count.done}/{search.count.expected}" if search.begun else "waiting"
        found = "" if search.inspected else NOT_INSPECTED
    else:
        state, found = "finished", _confirmed(search) or "nothing confirmed"
    return [Text(search.label, "cyan"), worded(state), baseline, Text(found, "dim")]


def _confirmed(search: SearchView) -> str:
    """The best confirmed variant and how it came out."""
    confirmed = [variant for variant in search.variants if variant.mean is not None and not variant.same_as]
    if not confirmed:
        return ""
    best = max(confirmed, key=lambda variant: variant.mean or 0.0)
    return f"{best.name} {points(best.mean, 1)} {best.verdict or ''}"


def _variants(moment: Moment, search: SearchView, width: int) -> list[Text]:
    if search.failed or not search.begun:
        return []
    running = [row.spec.variant for row in moment.running if row.spec.search == search.label]
    screens = [stage.name for stage in search.stages[:-1]]
    head = ["d_acc, pp", screens[-1] if screens else "", search.stages[-1].name, "95 % interval", ""]
    rows: list[list[Text | str]] = [[Text(cell, "dim") for cell in head]]
    for variant in search.variants:
        screened = variant.screens[-1] if variant.screens and not variant.same_as else None
        confirmed = variant.mean is not None and not variant.same_as
        rows.append(
            [
                variant.name,
                points(screened.d_acc, 1) if screened else "",
                points(variant.mean, 1) if confirmed else "",
                interval(variant, 1) if confirmed else "",
                worded("running" if variant.name in running else verdict(variant)),
            ]
        )
    return [cut(line, width) for line in columns(rows, "<>>><", indent=4)]


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


def _events(moment: Moment, now: datetime, width: int) -> list[Text]:
    lines = [Text()] if moment.events else []
    for event in moment.events[-MOST_EVENTS:]:
        when = f"{age(event.time, now)} ago"
        text = " ".join(event.text.split())
        level = Text.assemble(worded(event.level), " ") if event.level != "info" else Text()
        lines.append(Text.assemble((f"{when:>12}  ", "dim"), level, text))
    return lines
