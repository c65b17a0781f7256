"""The one decision of the daemon: what comes next, from the plan and the rows alone.

There is no queue. Going on after a crash, showing a status, and running are readers of the same
function. It fills as many places as are free; one machine is the case of one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fsearch.plan import Plan, Search, expand
from fsearch.search.ahead import build_step, inspection_step, left_open, preparation_step
from fsearch.search.board import Board, Note, Record, Run, Step, VariantBoard, Wait, first_over
from fsearch.search.rows import DataFact, Facts, ModelFact
from fsearch.search.specs import first_micro_batch, probe_spec, search_data_key
from fsearch.search.verdict import FIRST_LEVEL, Verdict, second_look, undecided, verdicts
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


ONE_PLACE: Mapping[str, int] = {"": 1}
"""The daemon's own machine, on which nothing runs."""

ALL_RUNS = "all that can run now is running"


def next_step(plan: Plan, facts: Facts, record: Record, now_s: float) -> Run | Note | Wait | Done:
    """The next step of a plan for one free place: see `next_steps`."""
    steps = next_steps(plan, facts, record, now_s, ONE_PLACE)
    return steps[0] if isinstance(steps, Sequence) else steps


def next_steps(
    plan: Plan, facts: Facts, record: Record, now_s: float, free: Mapping[str, int]
) -> Sequence[Run] | Note | Wait | Done:
    """The next steps of a plan, one for each free place as far as there are any.

    now_s: the asking daemon's monotonic clock in seconds.
    free: how many places are free on each node; a node that is full stands with 0.

    Searches come in the plan's order; one that has to wait lets the next go first. Top-ups come when all
    searches have their first seeds. A variant goes to the node that its matched baseline ran on, as long as
    there is that node; everything else goes where most is free.
    """
    boards: list[Board] = []
    alone: Step | None
    alone = left_open(plan, facts, record) if facts.backend else build_step(plan, facts, record, now_s)
    steps = _first_steps([alone] if alone else _steps(_boards(plan, facts, record, now_s, {}), boards), free)
    top_ups: TopUps = {}
    if steps is None and (top_ups := _top_ups(plan, boards)):
        boards = []
        steps = _first_steps(_steps(_boards(plan, facts, record, now_s, top_ups), boards), free)
    return steps or Done(_standing(plan, boards, top_ups))


def standing_of(plan: Plan, facts: Facts, record: Record) -> Standing:
    """Where a plan stands now, for people to read."""
    boards, top_ups = boards_of(plan, facts, record)
    return _standing(plan, boards, top_ups)


TopUps = Mapping[int, frozenset[str]]
"""The variants that get further seeds, by the index of their search."""


def boards_of(plan: Plan, facts: Facts, record: Record) -> tuple[list[Board], TopUps]:
    """Every search's board, and who gets further seeds."""
    boards = [board for board, _ in _boards(plan, facts, record, 0.0, {})]
    if top_ups := _top_ups(plan, boards):
        boards = [board for board, _ in _boards(plan, facts, record, 0.0, top_ups)]
    return boards, top_ups


def _boards(
    plan: Plan, facts: Facts, record: Record, now_s: float, top_ups: TopUps
) -> Iterator[tuple[Board, Sequence[Step]]]:
    for search in expand(plan, facts.models):
        yield _board(plan, search, facts, record, now_s, top_ups.get(search.index, frozenset()))


def _steps(found: Iterable[tuple[Board, Sequence[Step]]], boards: list[Board]) -> Iterator[Step]:
    """The steps of one search after another; their boards are put into `boards`."""
    for board, steps in found:
        boards.append(board)
        yield from steps


def _first_steps(steps: Iterable[Step], free: Mapping[str, int]) -> Sequence[Run] | Note | Wait | None:
    """What can start now; else the wait that is over first, or None if there was no step at all.

    A note comes before everything after it, since what is noted decides what that is.
    """
    left = dict(free)
    runs: dict[str, Run] = {}
    waits: list[Wait] = []
    some = False
    for step in steps:
        some = True
        if isinstance(step, Note):
            return tuple(runs.values()) or step
        if isinstance(step, Wait):
            waits.append(step)
        elif isinstance(step, Run) and step.spec.id not in runs:  # searches may share an attempt
            node = _node_for(step, left)
            if node is not None:
                left[node] -= 1
                runs[step.spec.id] = replace(step, node=node)
                if not any(left.values()):
                    break
    if runs:
        return tuple(runs.values())
    return first_over(waits) or (Wait(None, ALL_RUNS) if some else None)


def _node_for(run: Run, free: Mapping[str, int]) -> str | None:
    """The node that an attempt is to run on; None if it has no free place."""
    if run.noop_reference is not None and run.noop_reference.node in free:
        node = run.noop_reference.node
    else:
        node = max(free, key=lambda one: free[one])
    return node if free[node] else None


def _board(
    plan: Plan, search: Search, facts: Facts, record: Record, now_s: float, top_up: frozenset[str]
) -> tuple[Board, Sequence[Step]]:
    """The board under the current fingerprint, unless the search has ended under an older one."""

    def under(fingerprint: str) -> tuple[Board, Sequence[Step]]:
        key = (plan, search, fingerprint, facts.daemon, facts.memory_mib, top_up)
        if (kept := record.kept(key)) is not None:
            return kept
        board, steps = walk(
            search,
            fingerprint,
            record,
            claim=plan.claim,
            limits=plan.limits,
            daemon=facts.daemon,
            now_s=now_s,
            memory_mib=facts.memory_mib,
            top_up=top_up,
        )
        if not any(isinstance(step, Wait) for step in steps):
            record.keep(key, board, steps)
        return board, steps

    if search.n_layer is None:
        return inspection_step(plan, search, facts, record, now_s)
    data = facts.data.get(search_data_key(search))
    current = facts.fingerprint(data) if data and facts.backend else ""
    if current:
        board, steps = under(current)
        if not steps:
            return board, ()
    begun = record.fingerprints(probe_spec(search, first_micro_batch(search)).id)  # every walk asks it first
    for old in reversed(begun):
        if old != current:
            finished, rest = under(old)
            if not rest:
                return finished, ()
    model = facts.models.get(plan.checkpoint or "")
    if data and model and data.vocab_size > model.vocab_size:
        reason = f"{data.vocab_size - 1}, but the checkpoint has a vocabulary of {model.vocab_size}"
        return Board(search, failed=f"its data have token ids up to {reason}", finished=True), ()
    if current:
        return board, steps
    return preparation_step(plan, search, facts, record, now_s)


def _confirmed(boards: Iterable[Board]) -> list[tuple[Board, VariantBoard]]:
    """The promoted variants that have their first seeds."""
    return [
        (board, entry)
        for board in boards
        for entry in board.promoted
        if len(entry.differences) >= board.search.stages[-1].first_seeds
    ]


def _first_look(plan: Plan, boards: list[Board], *, provisional: bool) -> list[Verdict]:
    """Verdicts from the first seeds of all confirmed variants, corrected over all promoted ones."""
    return verdicts(
        [_first_differences(board, entry) for board, entry in _confirmed(boards)],
        plan.claim.at_least,
        FIRST_LEVEL if plan.tops_up else plan.claim.alpha,
        promoted=_promoted(boards),
        provisional=provisional,
    )


def _first_differences(board: Board, entry: VariantBoard) -> list[float]:
    return entry.differences[: board.search.stages[-1].first_seeds]


def _promoted(boards: list[Board]) -> int:
    return sum(len(board.promoted) for board in boards)


def _top_ups(plan: Plan, boards: list[Board]) -> TopUps:
    """Who gets further seeds: nobody before the last search of the plan has its first ones."""
    found: dict[int, frozenset[str]] = {}
    if plan.tops_up and all(board.finished for board in boards):
        again = undecided(_first_look(plan, boards, provisional=True))
        for (board, entry), more in zip(_confirmed(boards), again, strict=True):
            if more:
                names = found.get(board.search.index, frozenset())
                found[board.search.index] = names | {entry.variant.name}
    return found


def _standing(plan: Plan, boards: list[Board], top_ups: TopUps) -> Standing:
    """Verdicts of the promoted variants that have their seeds, corrected over all promoted ones."""
    finished = all(board.finished for board in boards)
    confirmed = _confirmed(boards)
    found: list[Verdict] | list[Verdict | None]
    found = _first_look(plan, boards, provisional=not finished and not top_ups)
    if top_ups:
        found = second_look(
            found,
            [_first_differences(board, entry) for board, entry in confirmed],
            [_all_differences(board, entry) for board, entry in confirmed],
            plan.claim.at_least,
            promoted=_promoted(boards),
            provisional=not finished,
        )
    by_name = {
        (board.search.index, entry.variant.name): verdict
        for (board, entry), verdict in zip(confirmed, found, strict=True)
        if verdict is not None
    }
    return Standing(plan, tuple(boards), by_name)


def _all_differences(board: Board, entry: VariantBoard) -> list[float] | None:
    """None before a top-up is complete, and where it failed."""
    whole = entry.exit is None and len(entry.differences) == board.search.stages[-1].most_seeds
    return entry.differences if whole else None


def facts_as_recorded(
    data: dict[str, DataFact], models: dict[str, ModelFact], fingerprints: Mapping[str, Any]
) -> Facts:
    """The facts as the last daemon knew them, for those who only look.

    `fingerprints` is what the newest attempt ran under, part by part.
    """
    return Facts(
        data=data,
        environment=str(fingerprints.get("environment", "")),
        backend=str(fingerprints.get("backend", "")),
        daemon="",
        models=models,
    )
