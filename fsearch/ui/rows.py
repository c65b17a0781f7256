"""Every attempt id of a plan with what the plan makes of it: the rows of the export.

The labels are those of the plan that is looked at; the record's row says who asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fsearch.plan import BASELINE, Stage
from fsearch.search.board import Board, VariantBoard
from fsearch.search.next_step import Standing
from fsearch.search.outcomes import Closed, of_one_daemon, standing
from fsearch.search.rows import AHEAD, Attempt, Facts
from fsearch.search.specs import (
    SCREEN_SEED,
    build_spec,
    confirm_seeds,
    inspect_spec,
    noise_floor_seeds,
    noop_spec,
    prepare_spec,
    search_key,
    stage_spec,
    top_up_seeds,
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
    d_acc: float | None  # against the matched baseline, as a fraction
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


def rows_of(plan_standing: Standing, facts: Facts, attempts: Sequence[Attempt]) -> list[Row]:
    """The rows of a plan: in its order of asking, then those that it no longer asks for, by id."""
    boards = plan_standing.boards
    plan = plan_standing.plan
    keys = {search_key(board.search): index for index, board in enumerate(boards)}
    by_id: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_id.setdefault(attempt.spec.id, []).append(attempt)

    build = build_spec(plan.id, facts.environment).id
    places = {build: _Place(None, "", "build", "")}
    if plan.checkpoint is not None:
        places[inspect_spec(plan, facts.environment).id] = _Place(None, "", "inspect", "")
    for index, board in enumerate(boards):
        prepare = prepare_spec(board.search, facts.environment).id
        places.setdefault(prepare, _Place(index, board.search.label, "prepare", ""))
        known = _places(board) if board.asked else {}
        for identity in board.asked:
            if identity in known:
                places.setdefault(identity, known[identity])
            else:
                places.setdefault(identity, _Place(index, board.search.label, "probe", ""))
    rows = [
        _row(plan_standing, places[identity], by_id[identity]) for identity in places if identity in by_id
    ]
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
    """Every attempt of the board's stages by id."""
    search = board.search
    micro_batch = board.micro_batch or 0  # before it is found nothing trains
    found: dict[str, _Place] = {}

    def put(identity: str, stage: Stage, entry: VariantBoard | None) -> None:
        name = entry.variant.name if entry else BASELINE
        found.setdefault(identity, _Place(search.index, search.label, stage.name, name, entry))

    for stage in search.stages:
        for seed in _seeds(board, stage):
            put(stage_spec(search, stage, None, seed, micro_batch).id, stage, None)
        for entry in board.variants:
            if entry.same_as is None:
                for seed in _seeds(board, stage):
                    put(stage_spec(search, stage, entry.variant, seed, micro_batch).id, stage, entry)
    for entry in board.variants:
        put(noop_spec(search, search.stages[0], entry.variant).id, search.stages[0], entry)
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


def _seeds(board: Board, stage: Stage) -> Iterator[int]:
    if board.search.screen is not None:
        yield SCREEN_SEED
    yield from confirm_seeds(board.search.stages[-1])
    yield from top_up_seeds(board.search.stages[-1])
    if stage is board.search.stages[0]:
        yield from noise_floor_seeds(board.search)


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
        d_acc=place.d_acc,
        decision=place.decision,
        verdict=verdict.word if verdict else (entry.exit if entry else None),
        provisional=verdict.provisional if verdict else None,
        superseded=not current,
    )
