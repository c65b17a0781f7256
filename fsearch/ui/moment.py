"""This moment of a state, as plain data: who runs, what runs, the plan in question, the last events."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fsearch.search.rows import AHEAD, Attempt
from fsearch.store import DaemonRecord, Event, Reader
from fsearch.system.process import lives
from fsearch.ui.counts import NOTHING, Count
from fsearch.ui.nodes import nodes_now
from fsearch.ui.plans import recorded
from fsearch.ui.training import Machine, Training, machine_of, training_of
from fsearch.ui.view import PlanView, Snapshot
from fsearch.ui.words import since

EVENTS = 20
SILENT_S = 30.0
"""Without a sign of life for so long, a daemon of another machine is taken for dead."""

Life = Literal["never", "running", "ended", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a status shows. All but `life` is as recorded."""

    state: Path
    life: Life
    daemon: DaemonRecord | None
    running: tuple[Attempt, ...]  # attempts without an outcome of the living daemon, training last
    training: Training | None  # how far the last of those is, from its first step on
    machine: Machine | None  # what that one trains on
    view: PlanView | None  # the plan that runs, or that ran last
    path: str  # its plan file, as it was asked
    other_plans: int
    events: tuple[Event, ...]

    @property
    def count(self) -> Count:
        """Attempts of the plan; none is running where nobody runs."""
        searches = self.view.searches if self.view else ()
        whole = sum((search.count for search in searches), NOTHING)
        return whole if self.life == "running" else replace(whole, running=0)


class Watch:
    """Moments of one state, one after another: what did not change is not looked up and judged again."""

    def __init__(self, reader: Reader, state: Path) -> None:
        self._reader, self._state = reader, state
        self._last: tuple[int, str] | None = None
        self._plan: tuple[PlanView | None, str, int] = (None, "", 0)

    def moment(self, now: datetime) -> Moment:
        """Read everything a status shows; `now` is UTC."""
        reader, daemon = self._reader, self._reader.daemon()
        life = life_of(daemon, now)
        # Read first: what is recorded meanwhile is then looked at once more, rather than never.
        last = (reader.last_sequence(), daemon.id if daemon else "")
        if last != self._last:
            self._plan, self._last = _current(reader, daemon), last
        view, path, other_plans = self._plan
        unfinished = reader.unfinished() if life == "running" else []
        ours = [row for row in unfinished if daemon and row.daemon == daemon.id]
        running = sorted(ours, key=lambda row: row.spec.role not in AHEAD)
        trains = running[-1] if running and running[-1].spec.role not in AHEAD else None
        return Moment(
            state=self._state,
            life=life,
            daemon=daemon,
            running=tuple(running),
            training=training_of(reader, daemon, trains, view) if daemon and trains else None,
            machine=machine_of(daemon, trains, view) if daemon and trains else None,
            view=view,
            path=path,
            other_plans=other_plans,
            events=tuple(reader.events(limit=EVENTS)),
        )


def moment_of(reader: Reader, state: Path, now: datetime) -> Moment:
    """One moment alone; `now` is UTC."""
    return Watch(reader, state).moment(now)


def nothing_yet(state: Path) -> Moment:
    """The moment of a state without a record."""
    return Moment(
        state=state,
        life="never",
        daemon=None,
        running=(),
        training=None,
        machine=None,
        view=None,
        path="",
        other_plans=0,
        events=(),
    )


def life_of(daemon: DaemonRecord | None, now: datetime) -> Life:
    """Whether the daemon that started last is still there."""
    if daemon is None:
        return "never"
    if daemon.ended is not None:
        return "ended"
    if daemon.host == socket.gethostname():
        alive = lives(daemon.pid, daemon.pid_started)
    else:
        alive = since(daemon.beat_at, now).total_seconds() < SILENT_S
    return "running" if alive else "died"


def as_json(moment: Moment) -> dict[str, Any]:
    """Everything that a status shows, for scripts."""
    view = moment.view
    return {
        "state": str(moment.state),
        "life": moment.life,
        "daemon": asdict(moment.daemon) if moment.daemon else None,
        "running": [
            {
                "id": row.spec.id,
                "try": row.try_number,
                "role": row.spec.role,
                "search": row.spec.search,
                "stage": row.spec.stage,
                "variant": row.spec.variant,
                "seed": row.spec.seed,
                "started_at": row.started_at,
            }
            for row in moment.running
        ],
        "nodes": [asdict(node) for node in nodes_now(moment.daemon.progress)] if moment.daemon else [],
        "training": {**asdict(moment.training), "d_acc": moment.training.d_acc} if moment.training else None,
        "machine": asdict(moment.machine) if moment.machine else None,
        "plan": {"id": view.id, "name": view.name, "path": moment.path, "finished": view.finished}
        if view
        else None,
        "count": {**asdict(moment.count), "waiting": moment.count.waiting},
        "searches": [asdict(search) for search in view.searches] if view else [],
        "other_plans": moment.other_plans,
        "events": [asdict(event) for event in moment.events],
    }


def _current(reader: Reader, daemon: DaemonRecord | None) -> tuple[PlanView | None, str, int]:
    """The first unfinished plan of those that the daemon was asked to run, else the last of them.

    With its file, and the number of plans beside it.
    """
    records = reader.plans()
    asked = daemon.plan.split(", ") if daemon else []
    candidates = [record for record in records if record.name in asked] or list(records)
    view, path = None, ""
    for record in candidates:
        plan = recorded(record)
        if plan is not None:
            view, path = Snapshot(reader, [plan]).view(plan, with_regimes=False), record.path
            if not view.finished:
                break
    return view, path, max(0, len(records) - 1)
