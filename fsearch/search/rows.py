"""The rows that every decision is a function of: what was asked, what was found, what is known.

Pure data. The store writes and reads them, the protocol decides on them, the screens show them.
Nothing here knows about processes, files or SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fsearch.plan import SCORE
from fsearch.search.ids import digest

Role = Literal["build", "inspect", "prepare", "probe", "screen", "confirm"]
"""What a stage is for. `build`, `inspect` and `prepare` train nothing; `probe` verifies a batch; `screen`
and `confirm` are the stages of a plan."""

AHEAD: frozenset[Role] = frozenset({"build", "inspect", "prepare"})
"""The roles that make ready what trainings need: kernel, model, data."""

Recompute = Literal["off", "layers"]
"""Whether layers are computed anew in the backward pass. Where a plan leaves it open, a search decides it."""

Half = Literal["screen", "confirm", "all"]
"""The halves of the validation examples; `all` is both together (a plan without a screen)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpec:
    """One attempt as the protocol asks for it, before anything has run.

    `id` is a hash of everything that decides the result (see `fsearch.search.ids`); `plan`,
    `search`, `stage` and `variant` are labels.
    """

    id: str
    plan: str  # id (hash) of the plan that asked
    search: str  # label: task plus what tells it from its siblings
    search_key: str  # hash of what all attempts of the search share
    task: str
    arguments: dict[str, Any]  # the task's own arguments, all defaults filled in
    model: dict[str, Any]
    recipe: dict[str, Any]
    batch: int  # examples per optimizer step; 0 for the roles in AHEAD, and a no-op before it is found
    micro_batch: int  # examples per forward pass; 0 for the roles in AHEAD
    stage: str  # the stage's name in the plan, or the role
    role: Role
    steps: int
    halves: tuple[Half, ...]  # what is scored at the last step, the headline half last
    evaluate: dict[str, Any]
    variant: str  # name in the plan; "no_fs" is the baseline
    form: dict[str, Any]  # canonical form of the variant
    seed: int
    master_seed: int
    memory_mib: int | None = None  # what it may take; None: nobody knew

    @property
    def recompute(self) -> Recompute:
        """Whether it computes layers anew: as its search has decided, where the plan leaves that open."""
        found: Recompute = self.recipe.get("recompute", "off")
        return found

    @property
    def look_step(self) -> int | None:
        """The step after which it is looked at (see `fsearch.search.futility`); None for no look."""
        step: int | None = self.evaluate.get("look")
        return step

    @property
    def completions(self) -> dict[str, Any] | None:
        """How completions are generated after the last step; None: none are."""
        found: dict[str, Any] | None = self.evaluate.get("completions")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one attempt, as it stands in the record. `outcome` is None while it runs."""

    spec: AttemptSpec
    try_number: int  # 1, 2, ...
    sequence: int  # order of recording; never a clock
    outcome: str | None
    outcome_class: str | None
    reason: str = ""
    pattern: str = ""  # the entry of the outcome table that matched
    fingerprint: str = ""  # what it ran under; see `Facts.fingerprint`
    daemon: str = ""  # which daemon process ran it
    ended_monotonic_s: float = 0.0  # comparable only within one daemon
    score: float | None = None  # on the headline half, in 0..1
    loss: float | None = None
    acc_pooled: float | None = None
    screen_score: float | None = None  # on the screen half, where both halves were scored
    screen_loss: float | None = None
    look_score: float | None = None  # on the screen half, after `look_step` steps
    metrics: dict[str, float] = field(default_factory=dict)  # the task's own, on the headline half
    screen_metrics: dict[str, float] = field(default_factory=dict)  # where both halves were scored
    unavailable: dict[str, str] = field(default_factory=dict)  # metrics that could not be had, and why
    steps_done: int = 0
    tokens: int = 0
    backend: str = ""
    first_losses: tuple[float, ...] = ()
    early_weights_sha256: str = ""  # model weights without FS parameters, at step 20 or the last
    weights_sha256: str = ""  # the same at the end
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    peak_memory_mib: float | None = None  # private to the process, beyond what it began with
    energy_mj: float | None = None
    idle_s: float | None = None  # how long the device had no work before its first step; None: not known
    retry_after_s: float | None = None  # how long a server asked to be left alone
    fingerprints: dict[str, Any] = field(default_factory=dict)
    pid: int | None = None
    pid_started: float | None = None  # /proc start time, to tell a reused pid
    started_at: str = ""  # UTC, for people
    ended_at: str = ""

    @property
    def node(self) -> str:
        """The machine of a cluster that it ran on; "" is the daemon's own."""
        node: str = self.fingerprints.get("node", "")
        return node

    def read(self, metric: str) -> Attempt:
        """The same row with another metric for its score, as a plan sees it that decides on that one."""
        if metric == SCORE:
            return self
        own = {} if self.score is None else {SCORE: self.score}
        return replace(
            self,
            score=self.metrics.get(metric),
            screen_score=self.screen_metrics.get(metric),
            acc_pooled=None,
            metrics=own | self.metrics,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFact:
    """A data set that is ready: `key` is `fsearch.search.ids.data_key`. Failures are attempts."""

    key: str
    path: str
    sha256: str  # of the prepared contents
    code_sha256: str  # of the code that prepared it
    vocab_size: int
    n_train: int
    n_val_screen: int
    n_val_confirm: int
    max_tokens: int
    chance: float | None = None  # score of guessing
    majority: float | None = None  # score of always giving the most frequent answer
    origins: tuple[dict[str, str], ...] = ()  # what was read: name, revision, commit, sha256 of each
    documents: dict[str, list[int]] = field(default_factory=dict)  # of each example of the two halves

    def documents_of(self, half: Half) -> list[int]:
        """A number for what each example of a half was made from; empty where that is not known."""
        names = ("screen", "confirm") if half == "all" else (half,)
        return [number for name in names for number in self.documents.get(name, ())]

    def examples_in(self, half: Half) -> int:
        """How many examples a half has."""
        sizes = {"screen": self.n_val_screen, "confirm": self.n_val_confirm}
        return sizes.get(half) or sum(sizes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFact:
    """A checkpoint that was inspected and can be trained from. Failures are attempts."""

    key: str  # as the plan names it: an absolute path or an hf:// address
    path: str  # the file itself
    sha256: str  # of its contents
    size_bytes: int
    modified_ns: int  # of the file: with path and size, what tells that it was not touched since
    n_layer: int
    n_embd: int
    head_size: int
    vocab_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known apart from attempts, when the next step is asked for."""

    data: dict[str, DataFact]  # by key
    environment: str  # hash of code, torch, device and threads: a fingerprint without backend and data
    backend: str  # what trains: "" while the kernel is not built yet
    daemon: str  # id of the asking daemon; "" for those who only look
    models: dict[str, ModelFact] = field(default_factory=dict)  # by key
    memory_mib: int | None = None  # what an attempt may take on this machine; None for those who only look

    def fingerprint(self, data: DataFact) -> str:
        """What a row of this data set runs under now."""
        return digest({"environment": self.environment, "backend": self.backend, "data": data.sha256})
