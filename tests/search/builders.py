"""Plans, rows, and a world in which a plan runs without processes, for the tests of the protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fsearch.plan import Plan, Search, expand, parse
from fsearch.search.ahead import build_standing, next_preparation
from fsearch.search.board import Note, Record, Run, Wait
from fsearch.search.ids import data_key
from fsearch.search.next_step import Done, Standing, next_step
from fsearch.search.outcomes import CLASSES, Closed
from fsearch.search.rows import AHEAD, Attempt, AttemptSpec, DataFact, Facts, ModelFact


class ToyArguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    level: int = 0
    n_train: int = 8
    order: Literal["q_after", "q_first"] = "q_after"


class HubArguments(ToyArguments):
    @property
    def download(self) -> str:
        return f"owner/rows{self.level}"


SCHEMAS: dict[str, type[BaseModel]] = {"toy": ToyArguments, "other": ToyArguments, "hub": HubArguments}

QUICK = {"name": "quick", "steps": 20}
MEDIUM = {"name": "medium", "steps": 60, "seeds": 3}
TWINS = [{"name": "linear", "schedule": "linear"}, {"name": "cosine", "schedule": "cosine"}]


def plan_of(**changes: Any) -> Plan:
    """A plan of one toy task and one variant, with these top-level fields replaced; None leaves one out."""
    fields = {
        "name": "toy plan",
        "seed": 0,
        "model": {"init": {"n_layer": 3, "n_embd": 32, "head_size": 8}},
        "train": {"lr": 0.01},
        "stages": [QUICK, MEDIUM],
        "variants": ["scalar_l1"],
        "tasks": [{"task": "toy", "batch": 4}],
        **changes,
    }
    kept = {name: value for name, value in fields.items() if value is not None}
    return parse(json.dumps(kept), SCHEMAS)


def search_of(**changes: Any) -> Search:
    """The first search of such a plan."""
    return expand(plan_of(**changes))[0]


def row(spec: AttemptSpec, outcome: str | None = "completed", **fields: Any) -> Attempt:
    """A try of an attempt; the class follows from the outcome."""
    known = {"try_number": 1, "sequence": 1, "daemon": "d1", **fields}
    return Attempt(spec=spec, outcome=outcome, outcome_class=outcome and CLASSES[outcome], **known)


def data_fact(key: str) -> DataFact:
    return DataFact(
        key=key,
        path=f"/cache/{key}",
        sha256=f"sha {key}",
        code_sha256="code",
        vocab_size=11,
        n_train=8,
        n_val_screen=4,
        n_val_confirm=4,
        max_tokens=9,
    )


def model_fact(key: str, **changes: Any) -> ModelFact:
    """A checkpoint of three layers that fits the toy tasks."""
    known = {"path": key, "sha256": f"sha {key}", "size_bytes": 5, "modified_ns": 7, "n_layer": 3}
    return ModelFact(key=key, **{**known, "n_embd": 32, "head_size": 8, "vocab_size": 11, **changes})


@dataclass(frozen=True)
class Answer:
    """How a try ends."""

    outcome: str = "completed"
    score: float | None = 0.5
    reason: str = ""
    pattern: str = ""
    screen_score: float | None = None
    look_score: float | None = None
    loss: float | None = None
    weights: str = ""  # hash of the weights at the end
    peak_mib: float | None = None


OK = Answer()
OOM = Answer("oom", None, "out of memory")
AnswerTo = Callable[[AttemptSpec, int], Answer]
"""What happens to the n-th uninterrupted try (from 1) of an attempt."""

DIED = "daemon died"
LOST = "node lost"


@dataclass
class World:
    """A record, a clock and daemons that do what `next_step` says; `answer` stands in for training.

    Every step is checked: a try is new, its attempt is not closed, a wait lies ahead.
    """

    plan: Plan
    answer: AnswerTo = lambda spec, number: OK
    environment: str = "env"
    memory_mib: int | None = None
    backend: str = "cpu"
    prepared: bool = True
    crashes: Collection[int] = ()  # numbers of the steps during which the daemon dies
    rows: list[Attempt] = field(default_factory=list)
    data: dict[str, DataFact] = field(default_factory=dict)
    models: dict[str, ModelFact] = field(default_factory=dict)
    daemon: int = 1
    now_s: float = 100.0
    steps: int = 0

    def __post_init__(self) -> None:
        if self.prepared:
            for search in expand(self.plan):
                key = data_key(search.task, search.arguments, search.master_seed)
                self.data[key] = data_fact(key)

    @property
    def facts(self) -> Facts:
        return Facts(
            data=dict(self.data),
            environment=self.environment,
            backend=self.backend,
            daemon=f"d{self.daemon}",
            models=dict(self.models),
            memory_mib=self.memory_mib,
        )

    @property
    def record(self) -> Record:
        return Record(self.rows)

    def run(self, at_most: int = 1000) -> Standing:
        """To the end of the plan."""
        for _ in range(at_most):
            step = self.step()
            if isinstance(step, Done):
                return step.standing
        raise AssertionError(f"the plan has not ended after {at_most} steps")

    def step(self) -> Run | Note | Wait | Done:
        """One step of the daemon's loop: a preparation if one is due, else what comes next."""
        self.steps += 1
        now = (self.facts, self.record, self.now_s)
        preparation = next_preparation([self.plan], *now, downloads=False)
        preparation = preparation or next_preparation([self.plan], *now, downloads=True)
        step = preparation or next_step(self.plan, *now)
        if isinstance(step, Run):
            self.attempt(step)
        elif isinstance(step, Note):
            assert step.spec.id not in {known.spec.id for known in self.rows}
            outcome = Answer(step.outcome, None, step.reason)
            self.write(step.spec, 1, outcome, step.fingerprint)
        elif isinstance(step, Wait):
            assert step.until_s is None or step.until_s > self.now_s
            assert step.why
            self.now_s = self.now_s + 30.0 if step.until_s is None else step.until_s
        if self.steps in self.crashes:
            self._restart()
        return step

    def fingerprint(self, spec: AttemptSpec) -> str:
        if spec.role in AHEAD:
            return self.environment
        return self.facts.fingerprint(self.data[data_key(spec.task, spec.arguments, spec.master_seed)])

    def attempt(self, run: Run) -> None:
        """What a worker does with a try, or the daemon's death during it."""
        spec, fingerprint = run.spec, self.fingerprint(run.spec)
        tries = [known for known in self.rows if known.spec.id == spec.id]
        assert run.try_number not in {known.try_number for known in tries}
        under = [known for known in tries if known.fingerprint == fingerprint]
        if spec.role in AHEAD:  # what was missing may be there for a new daemon
            under = [known for known in under if known.daemon == self.facts.daemon]
        assert not is_closed(under, self.plan.limits.retries), f"{spec.variant} is run again"
        if self.steps in self.crashes:
            died = Answer("interrupted", None, "the daemon died", DIED)
            self.write(spec, run.try_number, died, fingerprint)
            return
        number = 1 + sum(known.pattern not in (DIED, LOST) for known in under)
        answer = self.answer(spec, number)
        if run.look is not None and answer.look_score is not None and answer.outcome == "completed":
            assert spec.variant != "no_fs" and run.look.step == spec.look_step
            if answer.look_score < run.look.below:
                answer = Answer("stopped_early", None, "far behind", look_score=answer.look_score)
        self.now_s += 1.0
        self.write(spec, run.try_number, answer, fingerprint)
        if spec.role == "prepare" and answer.outcome == "completed":
            key = data_key(spec.task, spec.arguments, spec.master_seed)
            self.data[key] = data_fact(key)
        if spec.role == "inspect" and answer.outcome == "completed":
            key = spec.model["checkpoint"]
            self.models[key] = model_fact(key)
        if spec.role == "build":
            self._use_kernel()

    def _use_kernel(self) -> None:
        state = build_standing(self.plan, self.facts, self.record)
        if isinstance(state, Closed):
            self.backend = "cpu" if state.completed else "torch-chunked"

    def write(self, spec: AttemptSpec, try_number: int, answer: Answer, fingerprint: str) -> None:
        self.rows.append(
            row(
                spec,
                answer.outcome,
                try_number=try_number,
                sequence=len(self.rows) + 1,
                reason=answer.reason,
                pattern=answer.pattern,
                score=answer.score,
                screen_score=answer.screen_score,
                look_score=answer.look_score if spec.look_step is not None else None,
                loss=answer.loss,
                weights_sha256=answer.weights,
                peak_memory_mib=answer.peak_mib,
                fingerprint=fingerprint,
                daemon=f"d{self.daemon}",
                ended_monotonic_s=self.now_s,
            )
        )

    def _restart(self) -> None:
        self.daemon += 1
        self.now_s = 3.0  # another boot, another clock


CLOSING = frozenset(
    [
        *("completed", "stopped_early", "noop", "oom", "data_short", "data_refused", "model_refused"),
        *("diverged", "kernel_build_failed"),
    ]
)
UNKNOWN = frozenset(["crashed", "hang"])


def is_closed(tries: list[Attempt], retries: int) -> bool:
    """Whether an attempt may not be tried again, said independently of the protocol's own table.

    Of a plan that waits for ever for a network, as every plan does for room on a disk.
    """
    free = (DIED, LOST, "zygote died", "stopped")
    words = [known.outcome for known in tries if known.pattern not in free]
    infrastructure = [word for word in words if word not in {"network_wait", "disk_full"} | CLOSING | UNKNOWN]
    unknown = [word for word in words if word in UNKNOWN]
    return bool(CLOSING.intersection(words)) or len(unknown) >= 2 or len(infrastructure) > retries


def scores(table: Mapping[tuple[str, str, int], float | str]) -> AnswerTo:
    """Answers by (stage, variant, seed): a score, or another outcome's word; 0.5 where nothing is said."""

    def answer(spec: AttemptSpec, number: int) -> Answer:
        said = table.get((spec.stage, spec.variant, spec.seed), 0.5)
        return Answer(score=said) if isinstance(said, float) else Answer(said, None, f"because {said}")

    return answer


def trained(world: World) -> list[tuple[str, str, int]]:
    """(stage, variant, seed) of the screening and confirming rows, in their order."""
    roles = ("screen", "confirm")
    return [(r.spec.stage, r.spec.variant, r.spec.seed) for r in world.rows if r.spec.role in roles]


def words(standing: Standing) -> dict[tuple[int, str], str]:
    """Each verdict's word by (search, variant)."""
    return {key: verdict.word for key, verdict in standing.verdicts.items()}
