"""One search from its rows: what they mean so far, and the steps that come next.

The walk asks for one attempt after another, exactly as the protocol says. Where the record has the
answer it goes on; at the first attempt that is still open it stops, and that attempt is the step.
Going on after a crash is walking again. Only the seeds of a confirmation do not depend on each other:
each of them is walked as far as it goes, so there can be a step of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fsearch.plan import SCORE, Claim, Limits, Search, Stage, sort_out
from fsearch.search.board import Board, Busy, Note, Record, Run, Screened, Step, VariantBoard, Wait
from fsearch.search.futility import Look, look_of
from fsearch.search.outcomes import Closed, runs, standing
from fsearch.search.probe import TRIES, Tried, largest_that_fits, next_size, probe_memory_mib
from fsearch.search.rows import Attempt, AttemptSpec, Recompute
from fsearch.search.screening import d_acc, decide, promote
from fsearch.search.specs import (
    SCREEN_SEED,
    confirm_seeds,
    first_micro_batch,
    micro_batches,
    noise_floor_seeds,
    noop_spec,
    probe_spec,
    recompute_choices,
    stage_spec,
    top_up_seeds,
)
from fsearch.search.statistics import noise_sd, operating_card


class _Blocked(Exception):
    """The walk cannot go on before one of these steps, in the order in which one after another would come."""

    def __init__(self, *steps: Step):
        self.steps = steps


class _Failed(Exception):
    """The search cannot be done; the message says why."""


def walk(
    search: Search,
    fingerprint: str,
    record: Record,
    *,
    claim: Claim,
    limits: Limits,
    daemon: str,
    now_s: float,
    memory_mib: int | None = None,
    top_up: frozenset[str] = frozenset(),
) -> tuple[Board, Sequence[Step]]:
    """The board of a search under one fingerprint, and its next steps; none when it has ended.

    `memory_mib` is what an attempt may take on this machine, for a search that begins now.
    `top_up` names the variants that the first look at the whole plan has left undecided.
    """
    board = Board(search, fingerprint, top_up=top_up)
    walker = _Walker(board, record, claim, limits, daemon, now_s, memory_mib)
    try:
        walker.whole_search()
    except _Blocked as blocked:
        return board, blocked.steps
    except _Failed as failure:
        board.failed = str(failure)
    board.finished = True
    return board, ()


class _Walker:
    def __init__(
        self,
        board: Board,
        record: Record,
        claim: Claim,
        limits: Limits,
        daemon: str,
        now_s: float,
        machine_mib: int | None,
    ):
        self.board = board
        self.search = board.search
        self.record = record
        self.claim = claim
        self.limits = limits
        self.daemon = daemon
        self.now_s = now_s
        self.memory_mib = self._memory_mib(machine_mib)

    def whole_search(self) -> None:
        self._name_variants()
        self._find_micro_batch()
        for stage in self.search.stages[:-1]:
            self._screen(stage)
        self._promote()
        self._confirm(self.search.stages[-1])

    def _name_variants(self) -> None:
        """Static no-ops are written down untrained; variants with one canonical form are merged."""
        for found in sort_out(self.search.variants, self.search.layers):
            entry = VariantBoard(found.variant, same_as=found.same_as)
            self.board.variants.append(entry)
            if found.noop:
                entry.exit, entry.reason = "noop", f"{found.noop}; not trained"
        for entry in self.board.variants:
            if entry.exit == "noop":
                spec = noop_spec(self.search, self.search.stages[0], entry.variant)
                self.board.asked[spec.id] = spec
                if not self.record.knows(spec.id):  # true under every fingerprint: nothing ran
                    raise _Blocked(Note(spec, self.board.fingerprint, "noop", entry.reason))

    def _memory_mib(self, machine_mib: int | None) -> int | None:
        """What every attempt of the search may take: the plan's limit, else the machine's as it began.

        So that a machine with less to spare when another daemon goes on changes nothing.
        """
        if self.search.memory_mib is not None:
            return self.search.memory_mib
        for recompute in recompute_choices(self.search):  # a plan that named one of them may have begun
            first = probe_spec(self.search, first_micro_batch(self.search), recompute=recompute).id
            if tries := self.record.tries(first, self.board.fingerprint):
                return tries[0].spec.memory_mib
        return machine_mib

    def _find_micro_batch(self) -> None:
        """The largest size with which the heaviest variant makes real steps within the memory of a probe.

        Where the plan leaves it open, layers are recomputed only if that allows a larger batch.
        """
        memory_mib = None if self.memory_mib is None else probe_memory_mib(self.memory_mib)
        fits, reason = 0, ""
        chosen: Recompute | None = None
        for recompute in recompute_choices(self.search):
            if not micro_batches(self.search, fits):
                break
            larger, reason = self._probe(recompute, fits, memory_mib)
            if larger is not None:
                fits, chosen = larger, recompute
        if not fits:
            raise _Failed(self._nothing_fits(memory_mib, reason))
        self.board.micro_batch, self.board.recompute = fits, chosen

    def _probe(self, recompute: Recompute, above: int, memory_mib: int | None) -> tuple[int | None, str]:
        """The largest size above `above` that fits, if one does, and what the last that did not has said."""
        sizes, first = micro_batches(self.search, above), first_micro_batch(self.search, above)
        given = isinstance(self.search.batch, int)
        tried: list[Tried] = []
        reason = ""
        while given or len(tried) < TRIES:
            size = next_size(sizes, tried, memory_mib, first)
            if size is None:
                break
            closed = self._ask(probe_spec(self.search, size, self.memory_mib, recompute))
            if not closed.completed:
                reason = closed.last.reason
                if closed.last.outcome != "oom":
                    raise _Failed(f"the batch could not be verified ({closed.last.outcome}): {reason}")
            tried.append(Tried(size, closed.completed, closed.last.peak_memory_mib))
        return largest_that_fits(tried), reason

    def _nothing_fits(self, memory_mib: int | None, reason: str) -> str:
        limit = "the plan's limits.memory_mib" if self.search.memory_mib else "what was free as it began"
        within = "" if memory_mib is None else f" within {memory_mib} MiB ({limit}, less a margin)"
        both = ", even with layers recomputed" if len(recompute_choices(self.search)) > 1 else ""
        return f"nothing fits{within}{both}: with a micro-batch of one example, {reason}"

    def _screen(self, stage: Stage) -> None:
        assert self.search.screen is not None
        prune_below = self.search.screen.prune_below
        baseline = self._baseline(stage, SCREEN_SEED)
        look = None
        if stage is self.search.stages[0]:
            look = look_of(baseline, self._noise_floor(stage, baseline))
        for entry in self._still_in():
            row = self._train(stage, entry, SCREEN_SEED, baseline, look)
            if row is None:
                continue
            difference = d_acc(row, baseline)
            decision = decide(difference, prune_below)
            screened = Screened(stage.name, row, baseline, difference, decision)
            entry.screens.append(screened)
            if decision == "prune":
                entry.exit = "pruned"
                entry.reason = "an exact tie with its baseline" if screened.tie else ""

    def _noise_floor(self, stage: Stage, baseline: Attempt) -> list[Attempt]:
        """The quick baseline on the seeds of the confirmation; one that fails is left out of the spread."""
        assert self.search.screen is not None
        rows = []
        for seed in noise_floor_seeds(self.search):
            closed = self._ask(stage_spec(self.search, stage, None, seed, *self._sizes))
            if closed.completed:
                self.board.baselines[stage.name, seed] = closed.last
                rows.append(closed.last)
        self.board.noise_scores = [row.score for row in (baseline, *rows) if row.score is not None]
        self.board.noise_sd = sd = noise_sd(self.board.noise_scores)
        if sd is not None:
            self.board.card = operating_card(self.search.screen.prune_below, self.claim.at_least, sd)
        return rows

    def _promote(self) -> None:
        if self.search.screen is None:
            chosen = {entry.variant.name for entry in self._still_in()}
        else:
            kept = {entry.variant.name: entry.screens[-1].difference for entry in self._still_in()}
            chosen = set(promote(kept, self.search.screen.promote_at_most))
        for entry in self._still_in():
            if entry.variant.name in chosen:
                entry.promoted = True
            else:
                entry.exit = "not_promoted"
                entry.reason = f"{len(chosen)} better survivors were promoted"

    def _confirm(self, stage: Stage) -> None:
        """Fresh seeds, each with its own baseline, shared by all promoted variants."""
        promoted = self.board.promoted
        self._compare(stage, confirm_seeds(stage), promoted)
        undecided = [entry for entry in promoted if entry.variant.name in self.board.top_up]
        self._compare(stage, top_up_seeds(stage), undecided)

    def _compare(self, stage: Stage, seeds: range, entries: list[VariantBoard]) -> None:
        """The seeds side by side. One that has to wait, or fails, keeps those after it from going on, as it
        would if they came one after another."""
        ahead: list[Step] = []
        for seed in seeds if entries else ():
            try:
                self._compare_on(seed, stage, entries)
            except _Blocked as blocked:
                ahead += blocked.steps
                if isinstance(ahead[-1], Wait):
                    break
            except _Failed:
                if not ahead:
                    raise
                break
        if ahead:
            raise _Blocked(*ahead)

    def _compare_on(self, seed: int, stage: Stage, entries: list[VariantBoard]) -> None:
        baseline = self._baseline(stage, seed)
        for entry in entries:
            if entry.exit is None:
                row = self._train(stage, entry, seed, baseline)
                if row is not None:
                    entry.confirm(row, baseline)

    def _still_in(self) -> Iterator[VariantBoard]:
        return (entry for entry in self.board.variants if entry.exit is None and entry.same_as is None)

    @property
    def _sizes(self) -> tuple[int, int | None, Recompute | None]:
        """The micro-batch that was found, the memory that an attempt may take, and how it keeps to that."""
        assert self.board.micro_batch is not None
        return self.board.micro_batch, self.memory_mib, self.board.recompute

    def _baseline(self, stage: Stage, seed: int) -> Attempt:
        closed = self._ask(stage_spec(self.search, stage, None, seed, *self._sizes))
        if not closed.completed:
            what = f"the {stage.name} baseline of seed {seed}"
            raise _Failed(f"{what} ended as {closed.last.outcome}: {closed.last.reason}")
        self.board.baselines[stage.name, seed] = closed.last
        return closed.last

    def _train(
        self, stage: Stage, entry: VariantBoard, seed: int, baseline: Attempt, look: Look | None = None
    ) -> Attempt | None:
        """The variant's completed row, or None when it leaves the search here."""
        spec = stage_spec(self.search, stage, entry.variant, seed, *self._sizes)
        closed = self._ask(spec, baseline, look)
        if closed.completed:
            return closed.last
        if closed.last.outcome == "stopped_early":
            entry.exit, entry.reason, entry.stopped = "pruned", closed.last.reason, closed.last
            return None
        entry.exit = "noop" if closed.last.outcome == "noop" else "failed"
        entry.reason = f"{stage.name} seed {seed}: {closed.last.reason or closed.last.outcome}"
        return None

    def _ask(
        self, spec: AttemptSpec, noop_reference: Attempt | None = None, look: Look | None = None
    ) -> Closed:
        self.board.asked.setdefault(spec.id, spec)
        tries = self.record.tries(spec.id, self.board.fingerprint)
        if runs(tries, self.daemon):
            raise _Blocked(Busy(spec.id))
        state = standing(tries, self.limits, self.daemon)
        if isinstance(state, Closed):
            return self._as_the_plan_sees_it(state)
        if state.not_before_s > self.now_s:
            why = f"{spec.search} {spec.stage} {spec.variant} is tried again: {state.why}"
            raise _Blocked(Wait(state.not_before_s, why))
        raise _Blocked(Run(spec, self.record.next_try_number(spec.id), noop_reference, look))

    def _as_the_plan_sees_it(self, closed: Closed) -> Closed:
        """With the plan's metric for the row's score: everything after is formed of that."""
        row, metric = closed.last, self.search.metric
        if metric == SCORE or not closed.completed or row.spec.role == "probe":
            return closed
        if metric not in row.metrics:
            why = row.unavailable.get(metric, "the row does not have it")
            what = f"the {row.spec.stage} attempt of {row.spec.variant}, seed {row.spec.seed}"
            raise _Failed(f"the plan decides on {metric}, which is unavailable for {what}: {why}")
        return replace(closed, last=row.read(metric))


def unmerged(variants: list[VariantBoard], name: str) -> VariantBoard:
    """The entry that holds the results of `name`: its own, or that of the variant it coincides with."""
    by_name = {entry.variant.name: entry for entry in variants}
    entry = by_name[name]
    return by_name[entry.same_as] if entry.same_as else entry
