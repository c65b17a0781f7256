"""What has to be there before anything trains: the kernel, the model, the data of every search.

All three are made ready by attempts of their own, and every daemon asks anew for what an earlier one could
not have: a compiler, a whole file or a data set may be there by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from fsearch.plan import Plan, Search, expand
from fsearch.search.board import Board, Busy, Outage, Record, Run, Wait
from fsearch.search.outcomes import NETWORK, Closed, Open, of_one_daemon, runs, standing
from fsearch.search.rows import Attempt, AttemptSpec, Facts
from fsearch.search.specs import build_spec, inspect_spec, prepare_spec, search_data_key

_REMEDIES = {
    "data_refused": "Once that is mended, start again.",
    "disk_refused": "Once that is mended, start again.",
    NETWORK: "Start again when there is a network, or give limits.wait_network more seconds.",
}
"""What a person can do after what the reasons of these outcomes advise."""


def build_standing(plan: Plan, facts: Facts, record: Record) -> Closed | Open:
    """How the kernel's build stands in this daemon."""
    return _standing(build_spec(plan.id, facts.environment), plan, facts, record)


def build_step(plan: Plan, facts: Facts, record: Record, now_s: float) -> Run | Wait | Busy:
    """The kernel's build, or what it waits for."""
    spec = build_spec(plan.id, facts.environment)
    if runs(_tries(spec, facts, record), facts.daemon):
        return Busy(spec.id)
    state = build_standing(plan, facts, record)
    if isinstance(state, Open) and state.not_before_s > now_s:
        return Wait(state.not_before_s, f"the kernel's build is tried again: {state.why}")
    return Run(spec, record.next_try_number(spec.id))


def left_open(plan: Plan, facts: Facts, record: Record) -> Run | None:
    """The build or the inspection of a plan that a kill took between what it made and its row.

    What it made is known by being there. It is asked again, finds it made and says so.
    """
    specs = [build_spec(plan.id, facts.environment)]
    if plan.checkpoint in facts.models:
        specs.append(inspect_spec(plan, facts.environment))
    for spec in specs:
        if _left_open(spec, plan, facts, record):
            return Run(spec, record.next_try_number(spec.id))
    return None


def inspection_step(
    plan: Plan, search: Search, facts: Facts, record: Record, now_s: float
) -> tuple[Board, Sequence[Run | Wait | Busy]]:
    """The board of a search whose checkpoint is not inspected, and how it comes to be.

    An inspection that once completed does not stand for a file that is not the same any more.
    """
    spec = inspect_spec(plan, facts.environment)
    if runs(_tries(spec, facts, record), facts.daemon):
        return Board(search), (Busy(spec.id),)
    state = _standing(spec, plan, facts, record)
    place = plan.checkpoint or ""
    if _refused(state):
        return _failed(search, "the model cannot be trained from", state, place), ()
    if isinstance(state, Open) and state.not_before_s > now_s:
        return Board(search), (Wait(state.not_before_s, _waiting(place, state.why)),)
    return Board(search), (Run(spec, record.next_try_number(spec.id)),)


def preparation_step(
    plan: Plan, search: Search, facts: Facts, record: Record, now_s: float
) -> tuple[Board, Sequence[Wait]]:
    """The board of a search whose data are not ready, and what it waits for."""
    state = _standing(prepare_spec(search, facts.environment), plan, facts, record)
    if _refused(state):
        what = "the data could not be prepared"
        return _failed(search, what, state, search.download or search.label), ()
    if isinstance(state, Closed) or not state.why:
        return Board(search), (Wait(None, f"{search.label}: its data are being prepared"),)
    until_s = state.not_before_s if state.not_before_s > now_s else None
    what = search.download or f"the data of {search.label}"
    return Board(search), (Wait(until_s, _waiting(what, state.why)),)


def next_preparation(
    plans: Sequence[Plan], facts: Facts, record: Record, now_s: float, *, downloads: bool
) -> Run | None:
    """The next data set to prepare ahead of the training: one of those that are downloaded, or of the others.

    What this daemon never tried comes first, then what it tried longest ago, then the plans' order: one data
    set that cannot be had keeps no other waiting. To be asked while none of its kind is being prepared.
    """
    due: list[tuple[int, Run]] = []
    for plan in plans:
        inspected = plan.checkpoint is None or plan.checkpoint in facts.models
        inspect = inspect_spec(plan, facts.environment)
        if not inspected and _refused(_standing(inspect, plan, facts, record)):
            continue
        for search in expand(plan, facts.models):
            if (search.download is not None) != downloads:
                continue
            spec = prepare_spec(search, facts.environment)
            if search_data_key(search) in facts.data and not _left_open(spec, plan, facts, record):
                continue
            state = _standing(spec, plan, facts, record)
            if state.completed if isinstance(state, Closed) else state.not_before_s <= now_s:
                last = max((row.sequence for row in _tries(spec, facts, record)), default=0)
                due.append((last, Run(spec, record.next_try_number(spec.id))))
    return min(due, key=lambda one: one[0])[1] if due else None


def _tries(spec: AttemptSpec, facts: Facts, record: Record) -> list[Attempt]:
    return of_one_daemon(record.tries(spec.id, facts.environment), facts.daemon)


def _left_open(spec: AttemptSpec, plan: Plan, facts: Facts, record: Record) -> bool:
    tries = record.tries(spec.id, facts.environment)
    interrupted = bool(tries) and tries[-1].outcome == "interrupted"
    return interrupted and isinstance(_standing(spec, plan, facts, record), Open)


def _standing(spec: AttemptSpec, plan: Plan, facts: Facts, record: Record) -> Closed | Open:
    return standing(_tries(spec, facts, record), plan.limits, facts.daemon)


def _refused(state: Closed | Open) -> TypeGuard[Closed]:
    """Whether this daemon has given it up."""
    return isinstance(state, Closed) and not state.completed


def _failed(search: Search, what: str, state: Closed, wanted: str) -> Board:
    """The board of a search that cannot begin; `wanted` is what it would have read."""
    outcome, reason = state.last.outcome or "", state.last.reason
    outage = None
    if state.waited_s is not None:
        outage = Outage(wanted, state.waited_s)
        reason = f"{wanted} was waited for in vain for {state.waited_s:.0f} s: {reason}"
    if outcome in _REMEDIES:
        reason = f"{reason.removesuffix('.')}. {_REMEDIES[outcome]}"
    failed = f"{what} ({outcome}): {reason}"
    return Board(search, failed=failed, finished=True, outage=outage)


def _waiting(what: str, why: str) -> str:
    return f"waiting for {what}: {why.removesuffix('.')}"
