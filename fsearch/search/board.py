"""What is known of one search, as every screen and every decision sees it.

A board is filled by `fsearch.search.walk` from rows and never stored: it is what the record means.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fsearch.plan import Search, Variant
from fsearch.search.futility import Look
from fsearch.search.rows import Attempt, AttemptSpec, Recompute
from fsearch.search.screening import Decision, Tie, apart, d_acc, tied
from fsearch.search.statistics import OperatingCard

Exit = Literal["noop", "pruned", "not_promoted", "failed"]


@dataclass(frozen=True, slots=True)
class Run:
    """The next attempt to run: `noop_reference` is the matched baseline, where there is one."""

    spec: AttemptSpec
    try_number: int
    noop_reference: Attempt | None = None
    look: Look | None = None  # of a variant that may be stopped early
    node: str = ""  # where; "" is the daemon's own machine


@dataclass(frozen=True, slots=True)
class Note:
    """A row to write without running anything: a static no-op."""

    spec: AttemptSpec
    fingerprint: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to run before `until_s` on the asking daemon's clock; None: until something changes."""

    until_s: float | None
    why: str

    def left_s(self, now_s: float) -> float | None:
        """How long yet."""
        return None if self.until_s is None else max(0.0, self.until_s - now_s)

    def told(self, now_s: float) -> str:
        """The sentence for a person."""
        left_s = self.left_s(now_s)
        return self.why if left_s is None else f"{self.why}; next try in {left_s:.0f} s"


def first_over(waits: Iterable[Wait]) -> Wait | None:
    """The wait that is over first, the first of equal ones; None without any."""
    return min(waits, key=lambda wait: (wait.until_s is None, wait.until_s or 0.0), default=None)


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing to run before an attempt that runs has ended: `what` is its id."""

    what: str


Step = Run | Note | Wait | Busy


@dataclass(frozen=True, slots=True)
class Screened:
    """A variant's result in one screening stage."""

    stage: str
    row: Attempt
    baseline: Attempt
    difference: float
    decision: Decision

    @property
    def tie(self) -> bool:
        return self.difference == 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A variant and its matched baseline on one confirmation seed."""

    row: Attempt
    baseline: Attempt
    difference: float = field(init=False)  # d_acc

    def __post_init__(self) -> None:
        object.__setattr__(self, "difference", d_acc(self.row, self.baseline))

    @property
    def d_loss(self) -> float | None:
        """Loss of the variant minus that of its matched baseline; None where one has none."""
        one, other = self.row.loss, self.baseline.loss
        return None if one is None or other is None else one - other


@dataclass(slots=True)
class VariantBoard:
    """One variant's way through a search."""

    variant: Variant
    same_as: str | None = None  # an earlier variant with the same canonical form
    exit: Exit | None = None  # how it left before a verdict
    reason: str = ""
    screens: list[Screened] = field(default_factory=list)
    stopped: Attempt | None = None  # its row, where a look ended it
    promoted: bool = False
    pairs: list[Pair] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)  # d_acc of the pairs; an outline has these alone

    def confirm(self, row: Attempt, baseline: Attempt) -> None:
        """Take in the variant's result on one more confirmation seed."""
        self.pairs.append(Pair(row, baseline))
        self.differences.append(self.pairs[-1].difference)

    @property
    def drafts_delta(self) -> float | None:
        """Medium minus quick baseline, as the drafts reported it: not a matched comparison.

        The screen half of the first confirmation seed against the quick baseline's score.
        """
        if not self.screens or not self.pairs:
            return None
        medium, quick = self.pairs[0].row.screen_score, self.screens[0].baseline.score
        return None if medium is None or quick is None else medium - quick


@dataclass(frozen=True, slots=True)
class Outage:
    """A download that was given up: the plan's `limits.wait_network` was over before the network was back."""

    what: str  # a data set's id, or a checkpoint's address
    waited_s: float


@dataclass(slots=True)
class Board:
    """One search: its baselines, its variants, and where it stands."""

    search: Search
    fingerprint: str = ""
    top_up: frozenset[str] = frozenset()  # variants that the first look has left undecided
    micro_batch: int | None = None
    recompute: Recompute | None = None  # decided with the micro-batch
    baselines: dict[tuple[str, int], Attempt] = field(default_factory=dict)  # (stage, seed)
    noise_scores: list[float] = field(default_factory=list)
    noise_sd: float | None = None
    card: OperatingCard | None = None
    variants: list[VariantBoard] = field(default_factory=list)
    failed: str = ""  # why the search cannot be done, if so
    outage: Outage | None = None  # the same, where it is for want of a network
    finished: bool = False
    asked: dict[str, AttemptSpec] = field(default_factory=dict)  # what the walk has asked for, in order

    @property
    def ties(self) -> list[Tie]:
        """The scores that several rows of one stage and seed share to the digit, with different losses."""
        rows: dict[tuple[str, int], list[Attempt]] = {place: [row] for place, row in self.baselines.items()}
        for entry in self.variants:
            for row in (*(one.row for one in entry.screens), *(pair.row for pair in entry.pairs)):
                rows.setdefault((row.spec.stage, row.spec.seed), []).append(row)
        return [tie for (stage, seed), some in rows.items() for tie in tied(stage, seed, some)]

    @property
    def apart(self) -> list[tuple[Attempt, Attempt]]:
        """The compared rows, variant and baseline, that ran on two machines because one was lost between."""
        compared = [(one.row, one.baseline) for entry in self.variants for one in entry.screens]
        compared += [(one.row, one.baseline) for entry in self.variants for one in entry.pairs]
        return [pair for pair in compared if apart(*pair)]

    @property
    def promoted(self) -> list[VariantBoard]:
        """The variants under confirmation, merged ones counted once."""
        return [entry for entry in self.variants if entry.promoted and entry.same_as is None]

    def outline(self) -> Board:
        """The same without its rows: what decisions about the rest of the plan ask of an ended search."""
        variants = [replace(entry, screens=[], stopped=None, pairs=[]) for entry in self.variants]
        return replace(self, baselines={}, noise_scores=[], variants=variants, asked={})


class Record:
    """All tries by attempt id: the rows that decisions are made from.

    It may begin with some of them: `find` gives all tries of an attempt that is not among those, and is asked
    once for each. Boards are kept until a row of theirs is added: a decision costs what has changed, not what
    is done or runs. With `outlines` those of walks that have ended are kept without rows, and those are asked
    for again where they are needed: so does memory.
    """

    def __init__(
        self,
        attempts: Iterable[Attempt] = (),
        find: Callable[[str], Sequence[Attempt]] = lambda identity: (),
        *,
        outlines: bool = False,
    ):
        self._find = find
        self._outlines = outlines
        self._tries: dict[str, list[Attempt]] = {}
        self._kept: dict[Hashable, tuple[Board, Sequence[Step]]] = {}
        self._asking: dict[str, set[Hashable]] = {}  # which of them asked for an id
        for attempt in sorted(attempts, key=lambda attempt: attempt.sequence):
            self._tries.setdefault(attempt.spec.id, []).append(attempt)

    def add(self, attempt: Attempt) -> None:
        """Take in a row that was written: a new try, or how one ended."""
        tries = self.all_tries(attempt.spec.id)
        for key in self._asking.pop(attempt.spec.id, ()):
            self._kept.pop(key, None)
        others = [row for row in tries if row.try_number != attempt.try_number]
        self._tries[attempt.spec.id] = sorted([*others, attempt], key=lambda row: row.sequence)

    def supposing(self, attempt: Attempt) -> Record:
        """What the record would be with another row; it itself stays as it is."""
        other = Record(find=self.all_tries)
        other._kept = dict(self._kept)
        other._asking = {attempt.spec.id: set(self._asking.get(attempt.spec.id, ()))}
        other.add(attempt)
        return other

    def keep(self, key: Hashable, board: Board, steps: Sequence[Step]) -> None:
        """Keep what a walk has come to; `key` is all that it is a function of but the rows.

        A walk that came to a `Wait` is a function of the time too, and is not to be kept.
        """
        for identity in board.asked:
            self._asking.setdefault(identity, set()).add(key)
        if self._outlines and not steps:
            for identity in board.asked:
                self._tries.pop(identity, None)
            board = board.outline()
        self._kept[key] = board, steps

    def kept(self, key: Hashable) -> tuple[Board, Sequence[Step]] | None:
        """What a walk has come to, if nothing has changed since."""
        return self._kept.get(key)

    def all_tries(self, identity: str) -> list[Attempt]:
        """The tries of an attempt under every fingerprint, in order of recording."""
        tries = self._tries.get(identity)
        if tries is None:
            tries = self._tries[identity] = list(self._find(identity))
        return tries

    @property
    def at_hand(self) -> dict[str, list[Attempt]]:
        """The tries of the attempts that it began with or was asked for, by id."""
        return {identity: tries for identity, tries in self._tries.items() if tries}

    def tries(self, identity: str, fingerprint: str) -> list[Attempt]:
        """The tries of an attempt under one fingerprint, in order."""
        return [row for row in self.all_tries(identity) if row.fingerprint == fingerprint]

    def fingerprints(self, identity: str) -> list[str]:
        """What an attempt was tried under, in order of the first of those tries."""
        return list(dict.fromkeys(row.fingerprint for row in self.all_tries(identity)))

    def knows(self, identity: str) -> bool:
        """Whether the attempt stands in the record, under whatever fingerprint."""
        return bool(self.all_tries(identity))

    def next_try_number(self, identity: str) -> int:
        """Tries are numbered over all fingerprints, so that (id, try) names one row."""
        return max((row.try_number for row in self.all_tries(identity)), default=0) + 1


@dataclass(frozen=True, slots=True)
class Difference:
    """What a row's matched comparison says: `decision` only where a screening stage decided on it."""

    d_acc: float | None  # None where a look ended the row: it has no score to compare
    decision: Decision | None


def differences(board: Board) -> dict[str, Difference]:
    """The matched differences of a search by attempt id."""
    found: dict[str, Difference] = {}
    for entry in board.variants:
        for screened in entry.screens:
            found[screened.row.spec.id] = Difference(screened.difference, screened.decision)
        if entry.stopped is not None:
            found[entry.stopped.spec.id] = Difference(None, "prune")
        for pair in entry.pairs:
            found[pair.row.spec.id] = Difference(pair.difference, None)
    return found
