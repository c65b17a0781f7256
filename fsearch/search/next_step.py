"""The one decision of the daemon: what comes next, from the plan and the rows alone.

There is no queue. Going on after a crash, showing a status, and running are readers of the same
function.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsearch.plan import Plan, Search, expand
from fsearch.search.board import Board, Note, Record, Run, Step, Wait
from fsearch.search.outcomes import Closed, Open, of_one_daemon, standing
from fsearch.search.rows import DataFact, Facts, ModelFact
from fsearch.search.specs import build_spec, inspect_spec, prepare_spec, search_data_key
from fsearch.search.verdict import Verdict, verdicts
from fsearch.search.walk import walk


@dataclass(frozen=True, slots=True)
class Standing:
    """A whole plan: every search's board, and the verdicts by (search index, variant name)."""

    plan: Plan
    boards: tuple[Board, ...]
    verdicts: dict[tuple[int, str], Verdict]

    @property
    def finished(self) -> bool:
        return all(board.finished for board in self.boards)


@dataclass(frozen=True, slots=True)
class Done:
    """Every search of the plan has ended."""

    standing: Standing


def next_step(plan: Plan, facts: Facts, record: Record, now_s: float) -> Run | Note | Wait | Done:
    """The next step of a plan.

    `now_s` is the asking daemon's monotonic clock in seconds. Searches come in the plan's order;
    one that has to wait lets the next go first.
    """
    if not facts.backend:
        return _build(plan, facts, record, now_s)
    boards: list[Board] = []
    waits: list[Wait] = []
    for search in expand(plan, facts.models):
        board, step = _board(plan, search, facts, record, now_s)
        if isinstance(step, Run | Note):
            return step
        boards.append(board)
        if isinstance(step, Wait):
            waits.append(step)
    if waits:
        return min(waits, key=lambda wait: (wait.until_s is None, wait.until_s or 0.0))
    return Done(_standing(plan, boards))


def standing_of(plan: Plan, facts: Facts, record: Record) -> Standing:
    """Where a plan stands now, for people to read."""
    searches = expand(plan, facts.models)
    return _standing(plan, [_board(plan, search, facts, record, 0.0)[0] for search in searches])


def next_preparation(plan: Plan, facts: Facts, record: Record, now_s: float) -> Run | None:
    """The next data set to prepare, in the plan's order, ahead of the training."""
    if _model_refused(plan, facts, record):
        return None
    for search in expand(plan, facts.models):
        if search_data_key(search) in facts.data:
            continue
        spec = prepare_spec(search, facts.environment)
        state = _preparation(plan, search, facts, record)
        if isinstance(state, Closed) and not state.completed:
            continue
        if isinstance(state, Closed) or state.not_before_s <= now_s:
            return Run(spec, record.next_try_number(spec.id))
    return None


def _build(plan: Plan, facts: Facts, record: Record, now_s: float) -> Run | Wait:
    """The kernel's build. A new daemon tries again what failed before: a compiler may be there now."""
    state = build_standing(plan, facts, record)
    if isinstance(state, Open) and state.not_before_s > now_s:
        return Wait(state.not_before_s, f"the kernel's build is tried again: {state.why}")
    spec = build_spec(plan.id, facts.environment)
    return Run(spec, record.next_try_number(spec.id))


def build_standing(plan: Plan, facts: Facts, record: Record) -> Closed | Open:
    """How the kernel's build stands in this daemon."""
    spec = build_spec(plan.id, facts.environment)
    tries = of_one_daemon(record.tries(spec.id, facts.environment), facts.daemon)
    return standing(tries, plan.limits.retries, facts.daemon)


def _inspection(plan: Plan, facts: Facts, record: Record) -> Closed | Open:
    """How the inspection of the plan's checkpoint stands in this daemon."""
    spec = inspect_spec(plan, facts.environment)
    tries = of_one_daemon(record.tries(spec.id, facts.environment), facts.daemon)
    return standing(tries, plan.limits.retries, facts.daemon)


def _model_refused(plan: Plan, facts: Facts, record: Record) -> str:
    """Why the plan's model cannot be trained from; "" if it can, or may be."""
    if plan.checkpoint is None or plan.checkpoint in facts.models:
        return ""
    state = _inspection(plan, facts, record)
    if isinstance(state, Open) or state.completed:
        return ""
    return f"the model cannot be trained from ({state.last.outcome}): {state.last.reason}"


def _without_model(
    plan: Plan, search: Search, facts: Facts, record: Record, now_s: float
) -> tuple[Board, Step | None]:
    """The board of a search whose checkpoint is not inspected, and how it comes to be.

    An inspection that once completed does not stand for a file that is not the same any more.
    """
    refused = _model_refused(plan, facts, record)
    if refused:
        return Board(search, failed=refused, finished=True), None
    state = _inspection(plan, facts, record)
    if isinstance(state, Open) and state.not_before_s > now_s:
        return Board(search), Wait(state.not_before_s, f"the model is inspected again: {state.why}")
    spec = inspect_spec(plan, facts.environment)
    return Board(search), Run(spec, record.next_try_number(spec.id))


def _preparation(plan: Plan, search: Search, facts: Facts, record: Record) -> Closed | Open:
    spec = prepare_spec(search, facts.environment)
    return standing(record.tries(spec.id, facts.environment), plan.limits.retries, facts.daemon)


def _board(
    plan: Plan, search: Search, facts: Facts, record: Record, now_s: float
) -> tuple[Board, Step | None]:
    """The board under the current fingerprint, unless the search has ended under an older one."""

    def under(fingerprint: str) -> tuple[Board, Step | None]:
        return walk(
            search,
            fingerprint,
            record,
            claim=plan.claim,
            limits=plan.limits,
            daemon=facts.daemon,
            now_s=now_s,
        )

    if search.n_layer is None:
        return _without_model(plan, search, facts, record, now_s)
    data = facts.data.get(search_data_key(search))
    current = facts.fingerprint(data) if data and facts.backend else ""
    if current:
        board, step = under(current)
        if step is None:
            return board, None
    for old in reversed(record.fingerprints):
        if old != current:
            finished, rest = under(old)
            if rest is None:
                return finished, None
    model = facts.models.get(plan.checkpoint or "")
    if data and model and data.vocab_size > model.vocab_size:
        reason = f"{data.vocab_size - 1}, but the checkpoint has a vocabulary of {model.vocab_size}"
        return Board(search, failed=f"its data have token ids up to {reason}", finished=True), None
    if current:
        return board, step
    preparation = _preparation(plan, search, facts, record)
    if isinstance(preparation, Closed) and not preparation.completed:
        last = preparation.last
        reason = f"the data could not be prepared ({last.outcome}): {last.reason}"
        return Board(search, failed=reason, finished=True), None
    why = preparation.why if isinstance(preparation, Open) else ""
    return Board(search), Wait(None, f"{search.label}: {why or 'its data are being prepared'}")


def _standing(plan: Plan, boards: list[Board]) -> Standing:
    """Verdicts of the promoted variants that have their seeds, corrected over all promoted ones."""
    provisional = not all(board.finished for board in boards)
    tested = [
        (board.search.index, entry)
        for board in boards
        for entry in board.promoted
        if entry.exit is None and len(entry.pairs) == board.search.stages[-1].seeds
    ]
    differences = [[pair.difference for pair in entry.pairs] for _, entry in tested]
    found = verdicts(
        differences,
        plan.claim.at_least,
        plan.claim.alpha,
        promoted=sum(len(board.promoted) for board in boards),
        provisional=provisional,
    )
    by_name = {
        (index, entry.variant.name): verdict for (index, entry), verdict in zip(tested, found, strict=True)
    }
    return Standing(plan, tuple(boards), by_name)


def facts_as_recorded(data: dict[str, DataFact], models: dict[str, ModelFact], record: Record) -> Facts:
    """The facts as the last daemon knew them, for those who only look."""
    known = record.last_fingerprints
    return Facts(
        data=data,
        environment=str(known.get("environment", "")),
        backend=str(known.get("backend", "")),
        daemon="",
        models=models,
    )
