"""Where an effect holds: the matched differences of one task beside each other, over all its searches.

A regime is what tells a search from its siblings: batch, learning rate, order, lengths, and, among variants,
the first seeded layer. Every difference in the table is matched as everywhere. The one comparison that is
not, best against best over learning rates, stands apart, under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from fsearch.plan import Largest, Search, Variant
from fsearch.search.board import Board, Pair, VariantBoard
from fsearch.search.ids import digest
from fsearch.search.rows import Attempt
from fsearch.search.screening import comparable
from fsearch.search.specs import SCREEN_SEED
from fsearch.search.statistics import paired_t

Sign = Literal["", "flip", "flip?"]
"""Whether a variant goes the other way elsewhere: `flip` where both intervals exclude zero, `flip?` where
only the other one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeRow:
    """One variant in one search: its confirmation, or the screening stage that it left in."""

    search: str  # label
    where: dict[str, Any]  # what tells the search from its siblings
    variant: str
    family: str  # the variant but for its first seeded layer
    layer_start: int
    stage: str
    seeds: int  # trajectories of its own: replays of others are not counted
    mean: float
    low: float | None  # two-sided 95 %, paired t; None of one seed
    high: float | None
    sign: Sign = ""
    replay_of: str = ""  # search and variant with the very same trajectories


@dataclass(frozen=True, slots=True, kw_only=True)
class BestAgainstBest:
    """A variant at its best learning rate against the baseline at its own best one, seed by seed.

    Both rates are chosen on the screen half, where there is one, and compared on the confirm half.
    """

    variant: str
    where: dict[str, Any]  # of the searches, but for the learning rate
    variant_lr: float
    baseline_lr: float
    gains_at: tuple[float, ...]  # learning rates with a gain over the baseline of the same rate
    seeds: int
    mean: float | None  # None where `unknown` says why
    low: float | None
    high: float | None
    only_where_the_baseline_is_bad: bool  # a gain at some rate, and none shown over the baseline at its best
    unknown: str  # why there is no comparison, if so


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRegimes:
    """All searches of one task in a plan."""

    task: str
    searches: int
    rows: tuple[RegimeRow, ...]  # by family, first layer, search
    best: tuple[BestAgainstBest, ...]


def regimes(boards: Sequence[Board]) -> list[TaskRegimes]:
    """The regimes of every task of a plan, in its order."""
    found = []
    for task in dict.fromkeys(board.search.task for board in boards):
        own = [board for board in boards if board.search.task == task]
        rows = tuple(_rows(own))
        best = tuple(one for one in _best(own) if not _is_replay(one, rows))
        found.append(TaskRegimes(task=task, searches=len(own), rows=rows, best=best))
    return found


def _rows(boards: Sequence[Board]) -> list[RegimeRow]:
    axes = _axes([board.search for board in boards])
    seen: dict[tuple[str, str], str] = {}  # trajectories by weights, and who had them first
    rows = []
    for board in boards:
        where = {name: value for name, value in board.search.place.items() if name in axes}
        if "batch" in where and isinstance(board.search.batch, Largest):
            where["batch"] = f"{where['batch']} ({board.micro_batch})"
        for entry in board.variants:
            if row := _row(board, entry, where, seen):
                rows.append(row)
    families = list(dict.fromkeys(row.family for row in rows))
    rows.sort(key=lambda row: (families.index(row.family), row.layer_start))
    return [replace(row, sign=_sign(row, rows)) for row in rows]


def _row(
    board: Board, entry: VariantBoard, where: dict[str, Any], seen: dict[tuple[str, str], str]
) -> RegimeRow | None:
    """None for a variant that has no difference in this search, or another's."""
    name = f"{board.search.label} {entry.variant.name}"
    if entry.same_as is not None:
        return None
    if entry.pairs:
        stage, pairs = board.search.stages[-1].name, entry.pairs
    elif entry.screens:
        last = entry.screens[-1]
        stage, pairs = last.stage, [Pair(last.row, last.baseline)]
    else:
        return None
    own, replay_of = [], ""
    for pair in pairs:
        trajectories = (pair.row.weights_sha256, pair.baseline.weights_sha256)
        if trajectories in seen:
            replay_of = seen[trajectories]
        else:
            own.append(pair.difference)
        if pair.row.weights_sha256:
            seen.setdefault(trajectories, name)
    known = own or [pair.difference for pair in pairs]
    test = paired_t(known) if len(known) > 1 else None
    return RegimeRow(
        search=board.search.label,
        where=where,
        variant=entry.variant.name,
        family=_family(entry.variant),
        layer_start=entry.variant.layer_start,
        stage=stage,
        seeds=len(own),
        mean=fmean(known),
        low=test.low if test else None,
        high=test.high if test else None,
        replay_of="" if own else replay_of,
    )


def _sign(row: RegimeRow, rows: Iterable[RegimeRow]) -> Sign:
    others = [one for one in rows if one.family == row.family and not one.replay_of and one is not row]
    up = any(one.low is not None and one.low > 0 for one in others)
    down = any(one.high is not None and one.high < 0 for one in others)
    if row.low is None or row.high is None or row.replay_of:
        return ""
    if (row.low > 0 and down) or (row.high < 0 and up):
        return "flip"
    return "flip?" if (row.mean > 0 and down) or (row.mean < 0 and up) else ""


def _best(boards: Sequence[Board]) -> list[BestAgainstBest]:
    """For every group of searches that differ in their learning rate alone and have all ended."""
    axes = _axes([board.search for board in boards]) - {"lr"}
    groups: dict[str, list[Board]] = {}
    for board in boards:
        place = {name: value for name, value in board.search.place.items() if name != "lr"}
        groups.setdefault(digest(place), []).append(board)
    found = []
    for group in groups.values():
        ended = [board for board in group if not board.failed]
        if len(ended) < 2 or not all(board.finished for board in group):
            continue
        place = ended[0].search.place
        where = {name: value for name, value in place.items() if name in axes}
        names = dict.fromkeys(entry.variant.name for board in ended for entry in board.promoted)
        found += [one for name in names if (one := _best_of(name, ended, where))]
    return found


def _is_replay(best: BestAgainstBest, rows: Iterable[RegimeRow]) -> bool:
    """Whether all that it is from was counted already."""
    return all(
        row.replay_of
        for row in rows
        if row.variant == best.variant and best.where.items() <= row.where.items()
    )


def _best_of(name: str, boards: Sequence[Board], where: dict[str, Any]) -> BestAgainstBest | None:
    confirmed: dict[float, list[Pair]] = {}
    for board in boards:
        for entry in board.promoted:
            if entry.variant.name == name and entry.exit is None and len(entry.pairs) > 1:
                confirmed[_lr(board)] = entry.pairs
    if not confirmed:
        return None
    baseline_lr = _best_baseline_lr(boards)
    variant_lr = max(confirmed, key=lambda lr: _chosen_by([pair.row for pair in confirmed[lr]]))
    rivals = [row for board in boards if _lr(board) == baseline_lr for row in _confirming(board)]
    by_seed = {row.spec.seed: row for row in rivals}
    rows = [
        (pair.row, by_seed[pair.row.spec.seed])
        for pair in confirmed[variant_lr]
        if pair.row.spec.seed in by_seed
    ]
    unknown = ""
    if len(rows) < 2:
        unknown = f"the baseline's best learning rate, {baseline_lr:g}, has no confirmation of its own"
    elif any(not _alike(row, rival) for row, rival in rows):
        unknown = "the rows of both are of other code, data or machine, or differ in their micro-batch"
    test = None if unknown else paired_t([_score(row) - _score(rival) for row, rival in rows])
    gains = [lr for lr, pairs in confirmed.items() if paired_t([pair.difference for pair in pairs]).low > 0]
    return BestAgainstBest(
        variant=name,
        where=where,
        variant_lr=variant_lr,
        baseline_lr=baseline_lr,
        gains_at=tuple(gains),
        seeds=len(rows) if test else 0,
        mean=test.mean if test else None,
        low=test.low if test else None,
        high=test.high if test else None,
        only_where_the_baseline_is_bad=bool(gains) and test is not None and test.low <= 0,
        unknown=unknown,
    )


def _best_baseline_lr(boards: Sequence[Board]) -> float:
    """By the confirmations if every search has one, else by the quick baselines of one seed."""
    rows = {_lr(board): _confirming(board) for board in boards}
    if not all(rows.values()):
        quick = {
            _lr(board): board.baselines.get((board.search.stages[0].name, SCREEN_SEED)) for board in boards
        }
        rows = {lr: [row] for lr, row in quick.items() if row is not None}
    return max(rows, key=lambda lr: _chosen_by(rows[lr]))


def _lr(board: Board) -> float:
    return float(board.search.recipe["lr"])


def _confirming(board: Board) -> list[Attempt]:
    """The baselines of the confirmation."""
    return [row for (stage, _), row in board.baselines.items() if stage == board.search.stages[-1].name]


def _chosen_by(rows: Sequence[Attempt]) -> float:
    """What a learning rate is chosen by: the screen half, which the comparison does not look at."""
    return fmean(_score(row) if row.screen_score is None else row.screen_score for row in rows)


def _score(row: Attempt) -> float:
    assert row.score is not None  # of a completed row
    return row.score


def _alike(row: Attempt, rival: Attempt) -> bool:
    """Whether nothing but variant and learning rate tells two rows apart."""
    one, other = comparable(row), comparable(rival)
    one["recipe"], other["recipe"] = ({**each["recipe"], "lr": None} for each in (one, other))
    return one == other


def _axes(searches: Sequence[Search]) -> set[str]:
    """The names of what differs among them."""
    places = [search.place for search in searches]
    names = {name for place in places for name in place}
    return {name for name in names if len({repr(place.get(name)) for place in places}) > 1}


def _family(variant: Variant) -> str:
    return digest(variant.model_dump(mode="json", exclude={"name", "layer_start"}))
