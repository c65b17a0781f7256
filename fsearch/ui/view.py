"""What a plan and the record say, as plain data: the one place where a shown number is computed.

Report, status and export only lay these views out. Everything decided in them comes from
`fsearch.search`; nothing here compares, prunes or judges. Differences and scores are fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fsearch.plan import SCORE, Largest, Plan, Search, expand
from fsearch.search.board import Board, Outage, Pair, VariantBoard
from fsearch.search.examples import ExampleEffect
from fsearch.search.next_step import Standing, facts_as_recorded, standing_of
from fsearch.search.regimes import TaskRegimes, regimes
from fsearch.search.rows import DataFact, Half, Recompute
from fsearch.search.screening import Tie
from fsearch.search.specs import search_data_key, search_key
from fsearch.search.statistics import OperatingCard, PairedT, paired_t
from fsearch.search.walk import unmerged
from fsearch.store import Reader
from fsearch.store.selection import record_of
from fsearch.ui.counts import Count, count
from fsearch.ui.example_effects import ScoresOf, effect_of
from fsearch.ui.nodes import NodeUse, nodes_of
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
class LossView:
    """The matched differences of loss over the confirmation seeds, in nats a token; less is better."""

    mean: float
    low: float  # two-sided 95 % interval, paired t
    high: float
    disagrees: bool  # with the accuracy, both beyond their noise


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantView:
    """A variant's way through one search."""

    name: str
    same_as: str | None
    screens: tuple[ScreenView, ...]
    differences: tuple[float, ...]  # d_acc of each confirmation seed, matched
    metrics: dict[str, MetricView]  # by name
    seeds_wanted: int  # confirmation seeds of the plan, as many as this variant gets
    mean: float | None
    low: float | None  # two-sided 95 % interval of the mean; None under two seeds
    high: float | None
    p_at_least: float | None  # corrected, of "the gain is above the plan's margin"
    p_better: float | None  # corrected, of "the gain is above zero"
    p_at_least_alone: float | None  # the same of this variant alone, uncorrected
    p_better_alone: float | None
    level: float | None  # that the corrected ones were held against
    loss: LossView | None
    examples: ExampleEffect | None  # over examples, for these checkpoints; only in a report
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
    batch: int | None  # None before the largest that fits is found
    largest: bool  # whether it is that one
    micro_batch: int | None
    recompute: Recompute | None  # what holds; the recipe has what was asked for
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
    card: OperatingCard | None  # how the screen errs at this threshold and noise, where that is known
    below_noise: bool  # whether the threshold is under a quarter of the noise
    ties: tuple[Tie, ...]
    metric: str  # what is decided on: the scores below are of it
    unavailable: dict[str, str]  # metrics that some row does not have, and why
    half: Half  # of the validation examples that the confirmation scores
    examples: int | None  # in that half
    completed: int | None  # of them, those with completions; None where none are generated
    code_exec: str  # how generated programs are run
    variants: tuple[VariantView, ...]
    count: Count
    superseded: int  # rows kept from other code, data or machine

    @property
    def best(self) -> VariantView | None:
        """The confirmed variant with the largest mean."""
        confirmed = [one for one in self.variants if one.mean is not None and not one.same_as]
        return max(confirmed, key=lambda one: one.mean or 0.0, default=None)


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
    tops_up: bool  # whether what is undecided after the first seeds gets more
    searches: tuple[SearchView, ...]
    regimes: tuple[TaskRegimes, ...]  # where effects hold, by task
    apart: int  # comparisons of two rows that ran on two nodes
    nodes: tuple[NodeUse, ...]  # of a cluster
    rows: tuple[Row, ...]

    @property
    def failures(self) -> list[Row]:
        """The rows that closed without a result."""
        return [row for row in self.rows if row.failed]

    @property
    def superseded(self) -> int:
        return sum(row.superseded for row in self.rows)


class Snapshot:
    """The rows of plans, to view these at one moment. The reader stays open as long."""

    def __init__(self, reader: Reader, plans: Sequence[Plan]):
        models = reader.models()
        self.record = record_of(plans, reader, models)
        self.facts = facts_as_recorded(reader.facts(), models, reader.last_fingerprints())

    def has(self, plan: Plan) -> bool:
        """Whether anything that this plan asks for was ever recorded."""
        keys = {search_key(search) for search in expand(plan, self.facts.models)}
        rows = (tries[0].spec for tries in self.record.at_hand.values())
        return any(spec.plan == plan.id or spec.search_key in keys for spec in rows)

    def view(self, plan: Plan, scores_of: ScoresOf | None = None, *, with_regimes: bool = True) -> PlanView:
        """The plan as this moment's record has it; with `scores_of` also what single examples say.

        Without regimes it takes a good deal less time.
        """
        standing = standing_of(plan, self.facts, self.record)
        rows = rows_of(standing, self.facts, self.record)
        return PlanView(
            id=plan.id,
            name=plan.name,
            path=plan.source.file,
            at_least=plan.claim.at_least,
            alpha=plan.claim.alpha,
            finished=standing.finished,
            promoted=sum(len(board.promoted) for board in standing.boards),
            tops_up=plan.tops_up,
            searches=tuple(
                self._search(standing, board, [row for row in rows if row.search_index == index], scores_of)
                for index, board in enumerate(standing.boards)
            ),
            regimes=tuple(regimes(standing.boards)) if with_regimes else (),
            apart=sum(len(board.apart) for board in standing.boards),
            nodes=tuple(nodes_of(rows)),
            rows=tuple(rows),
        )

    def _search(
        self, standing: Standing, board: Board, rows: list[Row], scores_of: ScoresOf | None
    ) -> SearchView:
        search = board.search
        data = self.facts.data.get(search_data_key(search))
        counted = count(board, rows)
        half: Half = "confirm" if search.screen else "all"
        examples = data.examples_in(half) if data else None
        return SearchView(
            label=search.label,
            task=search.task,
            arguments=search.arguments,
            recipe=search.recipe,
            batch=search.batch if isinstance(search.batch, int) else board.micro_batch,
            largest=isinstance(search.batch, Largest),
            micro_batch=board.micro_batch,
            recompute=board.recompute,
            inspected=search.n_layer is not None,
            stages=tuple(
                StageView(
                    name=stage.name,
                    steps=stage.steps,
                    seeds=stage.most_seeds,
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
            chance=data.chance if data and search.metric == SCORE else None,
            majority=data.majority if data and search.metric == SCORE else None,
            noise_sd=board.noise_sd,
            noise_seeds=len(board.noise_scores),
            prune_below=search.screen.prune_below if search.screen else None,
            card=board.card,
            below_noise=board.card is not None and board.card.below_noise,
            ties=tuple(board.ties),
            metric=search.metric,
            unavailable={
                name: why
                for row in rows
                if not row.superseded
                for name, why in row.attempt.unavailable.items()
            },
            half=half,
            examples=examples,
            completed=_completed(search, examples),
            code_exec=search.completions.get("code_exec", "off"),
            variants=tuple(
                _variant(standing, board, entry.variant.name, data, scores_of) for entry in _entries(board)
            ),
            count=counted,
            superseded=sum(row.superseded for row in rows),
        )


def _completed(search: Search, examples: int | None) -> int | None:
    """How many of so many examples have completions."""
    if not search.completions or examples is None:
        return None
    return min(examples, search.completions["examples"] or examples)


def _entries(board: Board) -> list[VariantBoard]:
    return board.variants or [VariantBoard(variant) for variant in board.search.variants]


def _variant(
    standing: Standing, board: Board, name: str, data: DataFact | None, scores_of: ScoresOf | None
) -> VariantView:
    own = unmerged(_entries(board), name)
    differences = own.differences
    verdict = standing.verdicts.get((board.search.index, own.variant.name))
    paired = paired_t(differences) if len(differences) > 1 else None
    mean = paired.mean if paired else (differences[0] if differences else None)
    stage = board.search.stages[-1]
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
        seeds_wanted=stage.most_seeds if own.variant.name in board.top_up else stage.first_seeds,
        mean=mean,
        low=paired.low if paired else None,
        high=paired.high if paired else None,
        p_at_least=verdict.p_at_least if verdict else None,
        p_better=verdict.p_better if verdict else None,
        p_at_least_alone=verdict.paired.p_greater(standing.plan.claim.at_least) if verdict else None,
        p_better_alone=verdict.paired.p_greater() if verdict else None,
        level=verdict.level if verdict else None,
        loss=_loss(own.pairs, paired),
        examples=effect_of(own.pairs, data, scores_of, board.search.metric) if scores_of else None,
        verdict=verdict.word if verdict else own.exit,
        provisional=verdict.provisional if verdict else False,
        seeds_needed=verdict.seeds_needed if verdict else None,
        reason=own.reason,
        drafts_delta=own.drafts_delta,
    )


def _loss(pairs: Sequence[Pair], accuracy: PairedT | None) -> LossView | None:
    differences = [pair.d_loss for pair in pairs if pair.d_loss is not None]
    if accuracy is None or len(differences) < len(pairs):
        return None
    loss = paired_t(differences)
    better = accuracy.low > 0 and loss.low > 0
    worse = accuracy.high < 0 and loss.high < 0
    return LossView(mean=loss.mean, low=loss.low, high=loss.high, disagrees=better or worse)


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
