"""Where a person looks on a live status, and what a key does to it: pure data and one pure function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fsearch.ui.moment import Moment

Page = Literal["searches", "failures", "help"]

FORWARD = ("j", "down")
BACK = ("k", "up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What of a moment is shown in full."""

    page: Page = "searches"
    search: str | None = None  # its label; None follows the one that is worked on
    skipped: int = 0  # failures above the first that is shown


def open_search(moment: Moment, looking: Looking) -> int:
    """The search shown in full: the chosen one, that of the running attempt, or the first unfinished one."""
    searches = moment.view.searches if moment.view else ()
    labels = [search.label for search in searches]
    for label in (looking.search, *(row.spec.search for row in reversed(moment.running))):
        if label in labels:
            return labels.index(label)
    unfinished = (at for at, search in enumerate(searches) if not search.finished)
    return next(unfinished, max(0, len(labels) - 1))


def pressed(looking: Looking, key: str, moment: Moment) -> Looking | None:
    """Where one looks after a key; None is the end of looking. Keys that mean nothing change nothing."""
    if key == "q":
        return None
    if key in ("f", "?"):
        page: Page = "failures" if key == "f" else "help"
        return replace(looking, page="searches" if looking.page == page else page, skipped=0)
    if key == "escape":
        return Looking() if looking.page == "searches" else replace(looking, page="searches")
    step = (key in FORWARD) - (key in BACK)
    if not step or moment.view is None:
        return looking
    if looking.page == "failures":
        last = max(0, len(moment.view.failures) - 1)
        return replace(looking, skipped=min(max(0, looking.skipped + step), last))
    if looking.page == "searches" and moment.view.searches:
        at = open_search(moment, looking) + step
        at = min(max(0, at), len(moment.view.searches) - 1)
        return replace(looking, search=moment.view.searches[at].label)
    return looking
