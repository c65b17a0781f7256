"""Every attempt id of a plan with what the plan makes of it: the rows of the export.

The labels are those of the plan that is looked at; the record's row says who asked first.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsearch.plan import SCORE
from fsearch.search.board import Board, Record, VariantBoard
from fsearch.search.next_step import Standing
from fsearch.search.outcomes import Closed, of_one_daemon, standing
from fsearch.search.rows import AHEAD, Attempt, Facts
from fsearch.search.specs import (
    build_spec,
    inspect_spec,
    prepare_spec,
    search_key,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attempt id: the try that counts, all its tries, and what follows from it."""

    attempt: Attempt  # the closing try, or the newest one while it is open
    tries: tuple[Attempt, ...]  # under every fingerprint, in order
    closed: bool
    search_index: int | None  # None for one that serves all searches: the kernel's build, an inspection
    search: str
    variant: str
    stage: str
    metric: str  # what the plan decides on in this search
    d_acc: float | None  # of that metric, against the matched baseline, as a fraction
    decision: str | None
    verdict: str | None
    provisional: bool | None
    superseded: bool  # of other code, data or machine than the search lives under

    @property
    def failed(self) -> bool:
        """Whether it closed without a result. A probe that ran out of memory has found what it was for."""
        spec = self.attempt.spec
        if spec.role == "probe" and self.attempt.outcome == "oom":
            return False
        return self.closed and not self.superseded and self.attempt.outcome_class != "result"

    @property
    def trained(self) -> bool:
        """Whether it is an attempt of a stage that trains; static no-ops do not."""
        return self.attempt.spec.role in ("screen", "confirm") and "noop" not in self.attempt.spec.form


@dataclass(slots=True)
class _Place:
    """Where an attempt id stands in a search."""

    search_index: int | None
    search: str
    stage: str
    variant: str
    entry: VariantBoard | None = None
    d_acc: float | None = None
    decision: str | None = None


def rows_of(plan_standing: Standing, facts: Facts, record: Record) -> list[Row]:
    """The rows of a plan: in its order of asking, then those that it no longer asks for, by id."""
    boards = plan_standing.boards
    plan = plan_standing.plan
    keys = {search_key(board.search): index for index, board in enumerate(boards)}

    build = build_spec(plan.id, facts.environment).id
    places = {build: _Place(None, "", "build", "")}
    if plan.checkpoint is not None:
        places[inspect_spec(plan, facts.environment).id] = _Place(None, "", "inspect", "")
    for index, board in enumerate(boards):
        prepare = prepare_spec(board.search, facts.environment).id
        places.setdefault(prepare, _Place(index, board.search.label, "prepare", ""))
        for identity, place in _places(board).items():
            places.setdefault(identity, place)
    rows = [
        _row(plan_standing, place, tries)
        for identity, place in places.items()
        if (tries := record.all_tries(identity))
    ]
    by_id = record.at_hand
    rest = sorted(
        identity
        for identity, tries in by_id.items()
        if identity not in places and (tries[0].spec.plan == plan.id or tries[0].spec.search_key in keys)
    )
    for identity in rest:
        spec = by_id[identity][0].spec
        place = _Place(keys.get(spec.search_key), spec.search, spec.stage, spec.variant)
        rows.append(_row(plan_standing, place, by_id[identity]))
    return rows


def _places(board: Board) -> dict[str, _Place]:
    """Every attempt that the search has asked for, by id, under the names that it has in this plan."""
    search = board.search
    entries = {entry.variant.name: entry for entry in board.variants}
    found: dict[str, _Place] = {}
    for identity, spec in board.asked.items():
        trained = spec.role != "probe"
        entry = entries.get(spec.variant) if trained else None
        variant = spec.variant if trained else ""
        found[identity] = _Place(search.index, search.label, spec.stage, variant, entry)
    for entry in board.variants:
        for screened in entry.screens:
            place = found[screened.row.spec.id]
            last = screened is entry.screens[-1]
            place.d_acc = screened.difference
            place.decision = "promote" if entry.promoted and last else screened.decision
        if entry.stopped is not None:
            found[entry.stopped.spec.id].decision = "prune"
        for pair in entry.pairs:
            found[pair.row.spec.id].d_acc = pair.difference
    return found


def _row(plan_standing: Standing, place: _Place, tries: list[Attempt]) -> Row:
    index, entry = place.search_index, place.entry
    board = plan_standing.boards[index] if index is not None else None
    # Only what ran inside a search belongs to the fingerprint that the search lives under.
    role = tries[0].spec.role
    ran_inside = role not in AHEAD and "noop" not in tries[0].spec.form
    current = [row for row in tries if not ran_inside or (board and row.fingerprint == board.fingerprint)]
    if role in AHEAD:  # another daemon begins these afresh
        current = of_one_daemon(current, "")
    state = standing(current, plan_standing.plan.limits, "")
    verdict = None
    if entry is not None and index is not None:
        verdict = plan_standing.verdicts.get((index, entry.variant.name))
    return Row(
        attempt=state.last if isinstance(state, Closed) else (current or tries)[-1],
        tries=tuple(tries),
        closed=isinstance(state, Closed),
        search_index=index,
        search=place.search,
        variant=place.variant,
        stage=place.stage,
        metric=board.search.metric if board else SCORE,
        d_acc=place.d_acc,
        decision=place.decision,
        verdict=verdict.word if verdict else (entry.exit if entry else None),
        provisional=verdict.provisional if verdict else None,
        superseded=not current,
    )
