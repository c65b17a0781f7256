"""What a plan and the record say, as plain data: the one place where a shown number is computed.

Report, status and export only lay these views out. Everything decided in them comes from
`fsearch.search`; nothing here compares, prunes or judges. Differences and scores are fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fsearch.plan import Plan, expand
from fsearch.search.board import Board, Outage, Pair, Record, VariantBoard
from fsearch.search.next_step import Standing, facts_as_recorded, standing_of
from fsearch.search.rows import Attempt, DataFact, ModelFact
from fsearch.search.specs import search_data_key, search_key
from fsearch.search.statistics import paired_t
from fsearch.search.walk import unmerged
from fsearch.store import Reader
from fsearch.ui.counts import Count, count
from fsearch.ui.rows import Row, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenView:
    """A variant in one screening stage, on one seed."""

    stage: str
    score: float | None
    baseline_score: float | None
    d_acc: float
    decision: str  # "keep", "prune"; "promote" where it is under confirmation


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """One of the task's metrics: means over the confirmation seeds that have it."""

    baseline: float
    variant: float
    difference: float  # of the matched differences


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantView:
    """A variant's way through one search."""

    name: str
    same_as: str | None
    screens: tuple[ScreenView, ...]
    differences: tuple[float, ...]  # d_acc of each confirmation seed, matched
    metrics: dict[str, MetricView]  # by name
    seeds_wanted: int  # confirmation seeds of the plan
    mean: float | None
    low: float | None  # two-sided 95 % interval of the mean; None under two seeds
    high: float | None
    p_at_least: float | None  # corrected, of "the gain is above the plan's margin"
    p_better: float | None  # corrected, of "the gain is above zero"
    verdict: str | None  # a verdict's word, or how it left earlier; None while it is open
    provisional: bool
    seeds_needed: int | None  # where inconclusive
    reason: str  # why it left
    drafts_delta: float | None  # medium minus quick baseline: not a matched comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """A stage of a search and its baseline's scores."""

    name: str
    steps: int
    seeds: int
    baseline_scores: dict[str, float | None]  # by seed

    @property
    def baseline_mean(self) -> float | None:
        """Mean of the baseline's scores; None before the first."""
        known = [score for score in self.baseline_scores.values() if score is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView:
    """One search of a plan."""

    label: str
    task: str
    arguments: dict[str, Any]
    recipe: dict[str, Any]
    batch: int | None
    micro_batch: int | None
    inspected: bool  # whether the layers of the model are known; True where it starts from scratch
    stages: tuple[StageView, ...]
    screened: bool
    begun: bool
    finished: bool
    failed: str  # why it could not be done, if so
    outage: Outage | None  # the same, where it is for want of a network
    chance: float | None
    majority: float | None
    noise_sd: float | None  # of a difference of two baselines
    noise_seeds: int
    prune_below: float | None
    false_keep: float | None  # share of useless variants that pass the screen at this noise
    false_prune: float | None  # share of variants worth the margin that it loses
    variants: tuple[VariantView, ...]
    count: Count
    superseded: int  # rows kept from other code, data or machine


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """A plan and what the record says about it."""

    id: str
    name: str
    path: str
    at_least: float
    alpha: float
    finished: bool
    promoted: int  # variants that the correction is over
    searches: tuple[SearchView, ...]
    rows: tuple[Row, ...]

    @property
    def failures(self) -> list[Row]:
        """The rows that closed without a result."""
        return [row for row in self.rows if row.failed]

    @property
    def superseded(self) -> int:
        return sum(row.superseded for row in self.rows)


class Snapshot:
    """All rows of a record, read once, to view any number of plans of one moment."""

    def __init__(self, attempts: Sequence[Attempt], data: dict[str, DataFact], models: dict[str, ModelFact]):
        self.attempts = attempts
        self.record = Record(attempts)
        self.facts = facts_as_recorded(data, models, self.record)

    @classmethod
    def of(cls, reader: Reader) -> Snapshot:
        return cls(reader.attempts(), reader.facts(), reader.models())

    def has(self, plan: Plan) -> bool:
        """Whether anything that this plan asks for was ever recorded."""
        keys = {search_key(search) for search in expand(plan, self.facts.models)}
        return any(row.spec.plan == plan.id or row.spec.search_key in keys for row in self.attempts)

    def view(self, plan: Plan) -> PlanView:
        """The plan as this moment's record has it."""
        standing = standing_of(plan, self.facts, self.record)
        rows = rows_of(standing, self.facts, self.attempts)
        return PlanView(
            id=plan.id,
            name=plan.name,
            path=plan.source.file,
            at_least=plan.claim.at_least,
            alpha=plan.claim.alpha,
            finished=standing.finished,
            promoted=sum(len(board.promoted) for board in standing.boards),
            searches=tuple(
                self._search(standing, board, [row for row in rows if row.search_index == index])
                for index, board in enumerate(standing.boards)
            ),
            rows=tuple(rows),
        )

    def _search(self, standing: Standing, board: Board, rows: list[Row]) -> SearchView:
        search = board.search
        data = self.facts.data.get(search_data_key(search))
        counted = count(board, rows)
        return SearchView(
            label=search.label,
            task=search.task,
            arguments=search.arguments,
            recipe=search.recipe,
            batch=search.batch if isinstance(search.batch, int) else None,
            micro_batch=board.micro_batch,
            inspected=search.n_layer is not None,
            stages=tuple(
                StageView(
                    name=stage.name,
                    steps=stage.steps,
                    seeds=stage.seeds or 1,
                    baseline_scores={
                        str(seed): row.score
                        for (name, seed), row in board.baselines.items()
                        if name == stage.name
                    },
                )
                for stage in search.stages
            ),
            screened=search.screen is not None,
            begun=counted.done + counted.running > 0,
            finished=board.finished,
            failed=board.failed,
            outage=board.outage,
            chance=data.chance if data else None,
            majority=data.majority if data else None,
            noise_sd=board.noise_sd,
            noise_seeds=len(board.noise_scores),
            prune_below=search.screen.prune_below if search.screen else None,
            false_keep=board.card.false_keep if board.card else None,
            false_prune=board.card.false_prune if board.card else None,
            variants=tuple(_variant(standing, board, entry.variant.name) for entry in _entries(board)),
            count=counted,
            superseded=sum(row.superseded for row in rows),
        )


def _entries(board: Board) -> list[VariantBoard]:
    return board.variants or [VariantBoard(variant) for variant in board.search.variants]


def _variant(standing: Standing, board: Board, name: str) -> VariantView:
    own = unmerged(_entries(board), name)
    differences = [pair.difference for pair in own.pairs]
    verdict = standing.verdicts.get((board.search.index, own.variant.name))
    paired = paired_t(differences) if len(differences) > 1 else None
    mean = paired.mean if paired else (differences[0] if differences else None)
    return VariantView(
        name=name,
        same_as=None if own.variant.name == name else own.variant.name,
        screens=tuple(
            ScreenView(
                stage=screened.stage,
                score=screened.row.score,
                baseline_score=screened.baseline.score,
                d_acc=screened.difference,
                decision="promote" if own.promoted and screened is own.screens[-1] else screened.decision,
            )
            for screened in own.screens
        ),
        differences=tuple(differences),
        metrics=_metrics(own.pairs),
        seeds_wanted=board.search.stages[-1].seeds or 0,
        mean=mean,
        low=paired.low if paired else None,
        high=paired.high if paired else None,
        p_at_least=verdict.p_at_least if verdict else None,
        p_better=verdict.p_better if verdict else None,
        verdict=verdict.word if verdict else own.exit,
        provisional=verdict.provisional if verdict else False,
        seeds_needed=verdict.seeds_needed if verdict else None,
        reason=own.reason,
        drafts_delta=own.drafts_delta,
    )


def _metrics(pairs: Sequence[Pair]) -> dict[str, MetricView]:
    both: dict[str, list[tuple[float, float]]] = {}  # of the baseline and of the variant, seed by seed
    for pair in pairs:
        for name, value in pair.row.metrics.items():
            if name in pair.baseline.metrics:
                both.setdefault(name, []).append((pair.baseline.metrics[name], value))
    return {
        name: MetricView(
            baseline=fmean(before for before, _ in values),
            variant=fmean(after for _, after in values),
            difference=fmean(after - before for before, after in values),
        )
        for name, values in both.items()
    }
