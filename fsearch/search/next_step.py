"""The one decision of the daemon: what comes next, from the plan and the rows alone.

There is no queue. Going on after a crash, showing a status, and running are readers of the same
function.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsearch.plan import Plan, Search, expand
from fsearch.search.ahead import build_step, inspection_step, preparation_step
from fsearch.search.board import Board, Note, Record, Run, Step, Wait
from fsearch.search.rows import DataFact, Facts, ModelFact
from fsearch.search.specs import search_data_key
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
        return build_step(plan, facts, record, now_s)
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
        return inspection_step(plan, search, facts, record, now_s)
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
    return preparation_step(plan, search, facts, record, now_s)


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
