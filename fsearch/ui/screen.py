"""The status screen as lines, for a width and a height: pure functions of one moment.

The search that is being worked on is shown in full, the others in one line each; what does not fit is
counted, never cut off silently.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from rich.text import Text

from fsearch.ui.layout import bar, cut, paragraph, pulled_apart, worded
from fsearch.ui.looking import Looking
from fsearch.ui.moment import Moment
from fsearch.ui.pages import failures_page, help_page
from fsearch.ui.running import now_lines
from fsearch.ui.searches import board
from fsearch.ui.state import shown
from fsearch.ui.view import PlanView
from fsearch.ui.waits import waits_for
from fsearch.ui.words import age, duration, since

LOW = 30
"""Lines below which a screen leaves an empty one out, where it needs the room."""

FEWEST_EVENTS = 2
_LINES_AN_EVENT = 8
"""Of the screen's height, before the board takes what it needs."""

_KEYS = "q quit   j/k tasks   f failures   ? help"


def screen(
    moment: Moment, now: datetime, width: int, height: int | None, looking: Looking | None = None
) -> list[Text]:
    """The whole screen; `height` None shows everything, `looking` is where a person looks on a live one."""
    view = moment.view
    if view is None or moment.daemon is None:
        lines = _empty(moment, width)
    else:
        head = _head(moment, view, now, width)
        room = None if height is None else height - (looking is not None)
        lines = [*head, *_page(moment, view, now, width, room, looking or Looking(), len(head))]
    lines = [cut(line, width) for line in lines[:height]]
    if looking is None or height is None:
        return lines
    blank = [Text() for _ in range(height - 1 - len(lines))]
    return [*lines[: height - 1], *blank, cut(Text(_KEYS, "dim"), width)]


def _page(
    moment: Moment,
    view: PlanView,
    now: datetime,
    width: int,
    height: int | None,
    looking: Looking,
    above: int,
) -> list[Text]:
    """What is below the head, of which there are `above` lines."""
    if looking.page == "help":
        return [Text(), *help_page(width)]
    if looking.page == "failures" and height is not None:
        return [Text(), *failures_page(view, now, width, height - above - 1, looking.skipped)]
    current = now_lines(moment, view, now, width)
    if height is None:
        events = _events(moment, now, 2 * FEWEST_EVENTS)
        return [Text(), *current, Text(), *board(moment, view, looking, width, None), *events]
    gap = 1 if height >= LOW else 0
    fewest = max(FEWEST_EVENTS, height // _LINES_AN_EVENT)
    room = height - above - gap - len(current) - 1
    searches = board(moment, view, looking, width, room - len(_events(moment, now, fewest)))
    left = room - len(searches) - len(_events(moment, now, fewest))
    if not gap and left:
        gap, left = 1, left - 1
    events = _events(moment, now, fewest + left)
    return [*[Text()] * gap, *current, Text(), *searches, *events]


def _empty(moment: Moment, width: int) -> list[Text]:
    return [
        pulled_apart(Text("fsearch", "bold"), Text(shown(moment.state), "dim"), width),
        Text(),
        *paragraph("Nothing has run here yet. Begin with: fsearch run plans/demo.yaml", width, indent=0),
    ]


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
    failed = f"{count.failed} failed"
    words = [f"{count.done} done", f"{count.running} running", f"{count.pruned} pruned", failed]
    counts = Text("   ".join([*words, f"{count.waiting} waiting{_why(moment, view)}"]), "dim")
    if count.failed:
        counts.stylize("bold red", at := counts.plain.index(failed), at + len(failed))
    meter = bar(count.done, count.running, count.expected, width - len(total))
    return [pulled_apart(title, state, width), Text.assemble(meter, total), counts]


def _why(moment: Moment, view: PlanView) -> str:
    """What attempts wait for that is not their turn: ` (12 for a network, 4 for its data)`."""
    waiting: Counter[str] = Counter()
    for search in view.searches:
        what = waits_for(moment, search)
        if what is not None and what != "its turn":
            waiting["their data" if what == "its data" else what] += search.count.waiting
    words = [f"{number} for {what}" for what, number in waiting.items() if number]
    return f" ({', '.join(words)})" if words else ""


def _events(moment: Moment, now: datetime, most: int) -> list[Text]:
    lines = [Text()] if moment.events else []
    for event in moment.events[-most:]:
        when = f"{age(event.time, now)} ago"
        text = " ".join(event.text.split())
        level = Text.assemble(worded(event.level), " ") if event.level != "info" else Text()
        lines.append(Text.assemble((f"{when:>12}  ", "dim"), level, text))
    return lines
