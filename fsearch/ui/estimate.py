"""How long a plan will take, in words: what the record knows of runs like its own, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence

from fsearch.plan import Search
from fsearch.search.forecast import Speed, known_speed, seconds
from fsearch.search.rows import Attempt
from fsearch.ui.counts import at_least, at_most
from fsearch.ui.words import duration, names


def estimate(searches: Sequence[Search], recorded: Sequence[Attempt]) -> str:
    """One or two sentences. The shorter time is that of a plan in which no variant gets far."""
    speeds = {search.index: known_speed(search, recorded) for search in searches}
    known = [(search, speed) for search in searches if (speed := speeds[search.index]) is not None]
    if not known:
        return (
            "estimated time: not known, because the state has no run of these tasks with this model, "
            "precision and batch; the first attempts will tell"
        )
    least_s = sum(seconds(search, speed, at_least(search)) for search, speed in known)
    most_s = sum(seconds(search, speed, at_most(search)) for search, speed in known)
    words = f"estimated time: about {_rough(most_s)}"
    if most_s > least_s:
        screened = any(search.screen is not None for search, _ in known)
        least = "if nothing is promoted" if screened else "without further seeds"
        words = f"estimated time: about {_rough(least_s)} {least}, at most about {_rough(most_s)}"
    unknown = [search.label for search in searches if speeds[search.index] is None]
    if unknown:
        some = names(unknown[:3]) if len(unknown) <= 3 else f"{', '.join(unknown[:3])} and others"
        words += f", for {len(known)} of {len(searches)} searches; no run like those of {some} is recorded"
    return f"{words} ({_origin([speed for _, speed in known])}); preparing data and building come on top"


def _origin(speeds: Sequence[Speed]) -> str:
    fewest, most = min(speed.runs for speed in speeds), max(speed.runs for speed in speeds)
    runs = f"{fewest} to {most}" if fewest < most else str(most)
    machines = dict.fromkeys(speed.machine for speed in speeds if speed.machine.device)
    where = [f"{one.device}, {one.threads} thread{'s' * (one.threads != 1)}" for one in machines]
    return f"from {runs} recorded run{'s' * (most != 1)} each{f' on {names(where)}' if where else ''}"


def _rough(seconds_: float) -> str:
    """No more digits than an estimate has."""
    if seconds_ < 90:
        return f"{max(1, round(seconds_))} s"
    return duration(60 * round(seconds_ / 60)).removesuffix(" 0 s")
