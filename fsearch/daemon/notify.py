"""Telling people what they wait for: a plan's `notify` command gets one line of JSON on its standard input.

What is told: a plan is finished, a survivor is confirmed, the daemon stops before its plans are finished, a
network, a disk or the record is waited for too long. Commands run one after another, each in a session of its
own and not for long; nobody waits for them but the end of the daemon, and that not for long either. One that
fails is a sentence for the events, and nothing else.

What belongs to a plan is noted in the record once its command has ended, however it ended, and is not told
again by a later daemon. A daemon that is killed in between tells it twice, and never not at all.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fsearch.daemon.child import Child, start
from fsearch.daemon.known import Known
from fsearch.daemon.network import wanted
from fsearch.daemon.stop import StopSignals
from fsearch.plan import BASELINE, Plan
from fsearch.search.next_step import Standing, standing_of
from fsearch.search.outcomes import ROOM, network_streak, streak
from fsearch.search.rows import Attempt
from fsearch.search.verdict import Verdict
from fsearch.store import Store, StoreError
from fsearch.system.errand import PROGRAM
from fsearch.system.secrets import without_secrets

SCHEMA = 1
CONFIRMED = ("at_least_delta", "better_than_zero")
"""The verdicts of a survivor that is confirmed."""

LIMIT_S = 20.0
"""How long a command may take, and how long the end of the daemon waits for all that are left."""

LONG_S = 600.0
"""How long something is waited for before it is told; $FSEARCH_NOTIFY_WAIT_S, in seconds, takes its place."""

MOST_LISTED = 50
_LOG_BYTES = 1 << 20
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class News:
    """Something to be told, once: `key` says what in the record, "" for what is not noted there."""

    command: tuple[str, ...]
    folder: str
    line: str
    event: str
    key: str


@dataclass(slots=True)
class _Waiting:
    """What is waited for, since when on our clock, and whether that was told."""

    kind: str
    why: str
    since_s: float
    told: bool = False


class Notifier:
    """What one daemon tells. Without a plan that has a `notify` it does nothing."""

    def __init__(self, plans: Sequence[Plan], store: Store, state: Path) -> None:
        self._plans = [plan for plan in plans if plan.notify]
        self._limits = {plan.id: plan.limits.wait_network for plan in plans}
        self._store = store
        self._state = state
        self._told = store.told() if self._plans else set()
        self._long_s = float(os.environ.get("FSEARCH_NOTIFY_WAIT_S") or LONG_S)
        self._waits: dict[str, _Waiting] = {}
        self._queue: deque[News] = deque()
        self._running: tuple[News, Child] | None = None
        self._ended: list[tuple[News, str]] = []  # not yet noted, with what went wrong
        self._rows_changed = True

    # What happened

    def row_ended(self, row: Attempt, known: Known) -> None:
        """An attempt has ended: it may have confirmed something, finished a plan, or missed the network."""
        if not self._plans:
            return
        self._rows_changed = True
        spec = row.spec
        tries = known.record.tries(spec.id, row.fingerprint)
        missed = network_streak(tries, row.daemon)
        full = [one for one in streak(tries, ROOM) if one.daemon == row.daemon]
        limit = self._limits.get(spec.plan, "forever")
        if missed and (limit == "forever" or limit > self._long_s):
            self.waits(
                spec.id, "network", f"{wanted(spec, spec.search)}: {row.reason}", missed[0].ended_monotonic_s
            )
        elif full:
            self.waits(spec.id, "disk", row.reason, full[0].ended_monotonic_s)
        else:
            self.waits_no_more(spec.id)

    def waits(self, what: str, kind: str, why: str, since_s: float | None = None) -> None:
        """Something is waited for, since now or since `since_s` on our clock. May be said again and again."""
        since_s = time.monotonic() if since_s is None else since_s
        self._waits.setdefault(what, _Waiting(kind, why, since_s)).why = why

    def waits_no_more(self, what: str) -> None:
        self._waits.pop(what, None)

    def stands(self, kind: str, why: str, waited_s: float) -> None:
        """The record cannot be written, and the loop stands still. Nothing is noted here."""
        self.waits("record", kind, why, time.monotonic() - waited_s)
        self._work()

    def stopped(self, why: str) -> None:
        """The daemon ends before its plans do."""
        self._tell_all("daemon_stopped", f"fsearch stopped: {why}", reason=why)

    # Telling it

    def tend(self, known: Known) -> list[str]:
        """Look what there is to tell, and at the command that runs. Gives what went wrong with commands."""
        if self._rows_changed:
            self._rows_changed = False
            for plan in self._plans:
                self._look(standing_of(plan, known.facts, known.record))
        self.waits_no_more("record")
        self._work()
        failures = []
        while self._ended:
            news, failed = self._ended[0]
            if news.key:
                self._store.add_told(news.key)
            self._ended.pop(0)
            if failed:
                log = self._log.relative_to(self._state)
                sentence = f"notify: {news.command[0]} was to tell {news.event}, and {failed}"
                failures.append(f"{sentence}; what it printed is in {log}")
        return failures

    def close(self, known: Known, stop: StopSignals) -> list[str]:
        """Wait for what is left to be told, at most LIMIT_S, or until a signal. Gives what went wrong."""
        failures: list[str] = []
        self._rows_changed = True  # by a row that nothing ran for
        deadline_s, asked = time.monotonic() + LIMIT_S, stop.count
        with suppress(StoreError):  # it would be told again
            failures += self.tend(known)
            while (self._queue or self._running) and time.monotonic() < deadline_s and stop.count == asked:
                time.sleep(_PAUSE_S)
                failures += self.tend(known)
        left = len(self._queue) + (self._running is not None)
        if self._running:
            self._running[1].kill()
        if left:
            failures.append(f"notify: {left} messages were given up, because the daemon had to end")
        return failures

    @property
    def _log(self) -> Path:
        return self._state / "logs" / "notify.log"

    def _look(self, standing: Standing) -> None:
        """Tell what is confirmed, and that a plan is finished."""
        plan = standing.plan
        found = []
        for (index, name), verdict in standing.verdicts.items():
            if verdict.word in CONFIRMED:
                search = standing.boards[index].search.label
                found.append({"search": search, "variant": name, **_figures(verdict)})
                text = f"{plan.name}: {name} on {search} {_gain(plan, verdict)}"
                self._tell(plan, "survivor_confirmed", f"{search} {name}", text, **found[-1])
        if standing.finished and not any(board.outage for board in standing.boards):
            undone = [board.search.label for board in standing.boards if board.failed]
            self._tell(
                plan,
                "plan_finished",
                f"without {', '.join(undone)}" if undone else "",
                _summary(standing, found, len(undone)),
                searches=len(standing.boards),
                not_done=undone[:MOST_LISTED],
                confirmed=found[:MOST_LISTED],
            )

    def _tell(self, plan: Plan, event: str, what: str, text: str, **more: Any) -> None:
        """Once for each event of a plan; `what` tells those of one kind apart."""
        key = f"{plan.id} {event} {what}".strip()
        if key in self._told:
            return
        self._told.add(key)
        assert plan.notify is not None
        line = self._line(event, plan.name, plan.id, text, more)
        self._queue.append(News(plan.notify, plan.folder, line, event, key))

    def _tell_all(self, event: str, text: str, **more: Any) -> None:
        """Once for each command, whatever its plans."""
        by_command: dict[tuple[tuple[str, ...], str], list[Plan]] = {}
        for plan in self._plans:
            assert plan.notify is not None
            by_command.setdefault((plan.notify, plan.folder), []).append(plan)
        for (command, folder), plans in by_command.items():
            identity = plans[0].id if len(plans) == 1 else None
            line = self._line(event, ", ".join(plan.name for plan in plans), identity, text, more)
            self._queue.append(News(command, folder, line, event, ""))

    def _line(self, event: str, plan: str, plan_id: str | None, text: str, more: dict[str, Any]) -> str:
        about = {"schema": SCHEMA, "event": event, "text": text, "plan": plan, "plan_id": plan_id}
        here = {"time": _moment(0.0), "host": socket.gethostname(), "state": str(self._state)}
        return without_secrets(json.dumps({**about, **more, **here}, ensure_ascii=False)) + "\n"

    def _work(self) -> None:
        """See how long is waited, how the command does that runs, and start the next. Writes no record."""
        now_s = time.monotonic()
        for waiting in self._waits.values():
            waited_s = now_s - waiting.since_s
            if self._plans and not waiting.told and waited_s >= self._long_s:
                waiting.told = True
                since = _moment(waited_s)
                text = (
                    f"fsearch waits for {waiting.kind} since {since} ({waited_s / 60:.0f} min): {waiting.why}"
                )
                more = {"waiting_for": waiting.kind, "since": since, "waited_s": round(waited_s, 1)}
                self._tell_all("waiting", text, **more, reason=waiting.why)
        if self._running:
            news, child = self._running
            child.read()
            if child.ended:
                self._running = None
                result = child.close().result
                self._ended.append((news, "it was killed" if result is None else str(result["failed"])))
        if self._queue and not self._running:
            news = self._queue.popleft()
            with suppress(OSError):
                if self._log.stat().st_size > _LOG_BYTES:
                    self._log.unlink()
            job = {"command": news.command, "folder": news.folder, "input": news.line, "limit_s": LIMIT_S}
            self._running = news, start(PROGRAM, job, self._log)


def _figures(verdict: Verdict) -> dict[str, Any]:
    paired = verdict.paired
    return {
        "verdict": verdict.word,
        "provisional": verdict.provisional,
        "d_acc": paired.mean,
        "low": paired.low,
        "high": paired.high,
        "seeds": paired.n,
    }


def _gain(plan: Plan, verdict: Verdict) -> str:
    paired = verdict.paired
    said = f"is better than {BASELINE}"
    if verdict.word == "at_least_delta":
        said = f"gains at least {plan.claim.at_least * 100:g} pp over {BASELINE}"
    interval = f"{paired.mean * 100:+.2f} pp, 95 % [{paired.low * 100:+.2f}, {paired.high * 100:+.2f}]"
    later = "; provisional until the plan's last search has its seeds" if verdict.provisional else ""
    return f"{said} ({interval}, {paired.n} seeds){later}"


def _summary(standing: Standing, confirmed: Sequence[dict[str, Any]], undone: int) -> str:
    many = len(standing.boards)
    text = f"{standing.plan.name} is finished: {many} search{'es' * (many != 1)}"
    text += f", {undone} of them could not be done" if undone else ""
    best = [f"{one['variant']} on {one['search']} ({one['d_acc'] * 100:+.2f} pp)" for one in confirmed]
    more = f" and {len(best) - 5} more" if len(best) > 5 else ""
    return f"{text}; confirmed: {', '.join(best[:5])}{more}" if best else f"{text}; nothing is confirmed"


def _moment(ago_s: float) -> str:
    """So long ago, in UTC."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")
