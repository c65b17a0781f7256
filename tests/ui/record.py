"""A synthetic record, written by the real protocol through the real store: only the training is made up.

Scores are fixed functions of task, variant, stage and seed, so that the record is the same every time.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fsearch.daemon import record_path
from fsearch.daemon.training import Training
from fsearch.plan import Plan, parse
from fsearch.search.ahead import next_preparation
from fsearch.search.board import Note, Record, Run, Wait
from fsearch.search.ids import data_key
from fsearch.search.next_step import next_step
from fsearch.search.outcomes import CLASSES
from fsearch.search.rows import Attempt, AttemptSpec, DataFact, Facts
from fsearch.store import Evaluation, Store
from fsearch.system.process import start_time
from fsearch.tasks import schemas

PLAN = """\
name: three tasks
seed: 0
model: {init: {n_layer: 3, n_embd: 32, head_size: 8}}
train: {lr: 5.0e-3}
stages:
  - {name: quick, steps: 180}
  - {name: medium, steps: 560, seeds: 5}
screen: {prune_below: 0.01, promote_at_most: 2, noise_floor_seeds: 2}
claim: {at_least: 0.05}
variants:
  - {name: raw_strong, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
  - {name: raw_strong_l2, gate: scalar, alpha: 2, layer_start: 2, norm: false, clip: null, detach: false}
  - {name: head_trained, gate: head, alpha: 0, alpha_lr: 0.05, norm: false, clip: null, detach: false}
  - scalar_l1
  - scalar_l3
  - {name: strong_again, gate: scalar, alpha: 2, norm: false, clip: null, detach: false}
  - {name: wild, gate: scalar, alpha: 9, norm: false, clip: null, detach: false}
  - {name: silent, gate: scalar, alpha: -40, detach: false}
tasks:
  - {task: infill, batch: 32}
  - {task: kv_recall, order: q_after, batch: 32}
  - {task: kv_recall, order: q_first, batch: 32}
  - {task: sudoku, batch: 32}
"""

BASE = {"infill": 0.12, "kv_recall q_after": 0.30, "kv_recall q_first": 0.29}
EFFECT = {
    "infill": {"raw_strong": 0.58, "raw_strong_l2": 0.47, "head_trained": 0.52},
    "kv_recall q_after": {"raw_strong": 0.24, "raw_strong_l2": 0.12, "head_trained": 0.10},
    "kv_recall q_first": {"raw_strong": 0.02, "head_trained": -0.01},
}
SPREAD = {"raw_strong": 0.14, "raw_strong_l2": 0.10, "head_trained": 0.09}
"""How much a variant's score changes from seed to seed on kv_recall q_after; elsewhere next to nothing."""


def the_plan(text: str = PLAN) -> Plan:
    """The plan of the record."""
    return parse(text, schemas(), "plans/three.yaml")


def fill(
    state: Path,
    plan: Plan,
    *,
    stop_after: int | None = None,
    running: bool = False,
    environment: str = "environment-1",
    daemon: str = "daemon-1",
    fits: Callable[[AttemptSpec], bool] = lambda spec: True,
) -> None:
    """Take a plan on for `stop_after` steps of the protocol, or to its end.

    `running` leaves the next attempt without an outcome and the daemon (this process) alive; downloads find
    no network. `fits` says which probes do not run out of memory.
    """
    facts = Facts(data={}, environment=environment, backend="", daemon=daemon)
    with Store.open(record_path(state)) as store:
        store.add_plan(plan.id, name=plan.name, path="plans/three.yaml", text=plan.text)
        pid = os.getpid()
        store.start_daemon(
            daemon,
            pid=pid,
            pid_started=start_time(pid),
            host=socket.gethostname(),
            plan=plan.name,
            lock="cpu",
        )
        store.event("info", f"daemon {daemon} runs {plan.name}")
        trainer = _Trainer(store, facts, fits)
        while stop_after is None or trainer.steps < stop_after:
            if not trainer.step(plan):
                break
        if running:
            trainer.leave_running(plan)
        else:
            store.end_daemon(daemon)


class _Trainer:
    """Writes down what a daemon would have."""

    def __init__(self, store: Store, facts: Facts, fits: Callable[[AttemptSpec], bool]):
        self.store = store
        self.facts = facts
        self.fits = fits
        self.steps = 0
        known = {row.backend for row in store.attempts() if row.fingerprint == facts.environment}
        self._set(backend=next(filter(None, known), ""), data=store.facts())

    def step(self, plan: Plan) -> bool:
        """One step of the protocol; False when there is none."""
        self.steps += 1
        step = self._next(plan)
        if isinstance(step, Note):
            self.store.record(
                step.spec,
                step.outcome,
                CLASSES[step.outcome],
                step.reason,
                fingerprint=step.fingerprint,
                daemon=self.facts.daemon,
                try_number=Record(self.store.attempts()).next_try_number(step.spec.id),
            )
        elif isinstance(step, Run):
            self._begin(step)
            self._end(step)
        else:
            return False
        return True

    def leave_running(self, plan: Plan) -> None:
        step = self._next(plan)
        if isinstance(step, Wait):
            self.store.beat(self.facts.daemon, step.told(0.0))
            return
        assert isinstance(step, Run)
        self._begin(step)
        spec = step.spec
        done = f"step {spec.steps // 2} of {spec.steps}"
        name = f"{spec.search} {spec.stage} {spec.variant} seed {spec.seed}"
        self.store.beat(self.facts.daemon, f"{name}: {done}", _progress(step))

    def _next(self, plan: Plan) -> Any:
        record = Record(self.store.attempts())
        if self.facts.backend:
            for downloads in (False, True):
                preparation = next_preparation([plan], self.facts, record, 0.0, downloads=downloads)
                if preparation is not None:
                    return preparation
        return next_step(plan, self.facts, record, 0.0)

    def _begin(self, run: Run) -> None:
        spec = run.spec
        fingerprints = {"environment": self.facts.environment, "backend": self.facts.backend, "data": ""}
        if _key(spec) in self.facts.data:
            fingerprints["data"] = self.facts.data[_key(spec)].sha256
        self.store.begin(
            spec, run.try_number, self._fingerprint(spec), fingerprints, self.facts.daemon, 1, None
        )

    def _end(self, run: Run) -> None:
        spec, n = run.spec, run.try_number
        if spec.role == "build":
            self._set(backend="cpu-avx2")
            self.store.finish(spec.id, n, "completed", "result", backend="cpu-avx2")
        elif spec.role == "prepare" and spec.task == "sudoku":
            reason = "sudoku: 12 of 1024 boards could be built. Ask for fewer (n_val)."
            self.store.finish(spec.id, n, "data_short", "configuration", reason)
        elif spec.role == "prepare" and spec.arguments.get("source") == "hub":
            self.store.finish(spec.id, n, "network_wait", "infrastructure", "no route to huggingface.co")
        elif spec.role == "prepare":
            fact = _data(spec)
            self.store.put_fact(fact)
            self._set(data={**self.facts.data, fact.key: fact})
            self.store.finish(spec.id, n, "completed", "result")
        elif spec.role == "probe" and not self.fits(spec):
            self.store.finish(spec.id, n, "oom", "configuration", "out of memory")
        elif spec.role == "probe":
            self.store.finish(spec.id, n, "completed", "result", backend="cpu-avx2")
        elif spec.variant == "wild":
            reason = "the loss was not finite at step 17 (nan)"
            self.store.event("warning", f"{spec.search} {spec.variant} diverged: {reason}")
            self.store.finish(spec.id, n, "diverged", "configuration", reason, steps_done=17)
        elif spec.variant == "silent":
            reason = "losses and weights equal the baseline's to the bit at step 20"
            self.store.finish(spec.id, n, "noop", "result", reason, steps_done=20)
        else:
            self.store.add_evaluations(spec.id, n, _curve(spec))
            for half, arrays in _examples(spec).items():
                self.store.add_example_scores(spec.id, n, half, **arrays)
            self.store.finish(spec.id, n, "completed", "result", **_figures(spec))

    def _fingerprint(self, spec: AttemptSpec) -> str:
        if spec.role in ("build", "prepare"):
            return self.facts.environment
        return self.facts.fingerprint(self.facts.data[_key(spec)])

    def _set(self, **changes: Any) -> None:
        known = {"data": self.facts.data, "backend": self.facts.backend, **changes}
        self.facts = Facts(environment=self.facts.environment, daemon=self.facts.daemon, **known)


def _key(spec: AttemptSpec) -> str:
    return data_key(spec.task, spec.arguments, spec.master_seed)


def _data(spec: AttemptSpec) -> DataFact:
    return DataFact(
        key=_key(spec),
        path=f"/data/{_key(spec)}",
        sha256=_key(spec) * 4,
        code_sha256="code",
        vocab_size=24,
        n_train=16384,
        n_val_screen=512,
        n_val_confirm=512,
        max_tokens=34,
        chance=0.125,
        majority=0.13,
        documents={"screen": list(range(512)), "confirm": [512 + i // 2 for i in range(512)]}
        if spec.task == "infill"
        else {"screen": list(range(512)), "confirm": list(range(512, 1024))},
    )


def _figures(spec: AttemptSpec) -> dict[str, Any]:
    score = _score(spec)
    confirms = spec.role == "confirm"
    return {
        "score": score,
        "screen_score": round(score - 0.003, 6) if confirms else None,
        "loss": _loss(spec, score),
        "metrics": _metrics(spec, score),
        "acc_pooled": score,
        "steps_done": spec.steps,
        "tokens": spec.steps * spec.batch * 34,
        "backend": "cpu-avx2",
        "seconds": {"load": 0.2, "train": spec.steps / 50, "evaluate": 0.5},
        "energy_mj": 1e6 * spec.steps,
        "peak_memory_mib": 310.0,
    }


def _curve(spec: AttemptSpec) -> list[Evaluation]:
    """Eight points of the first half, growing towards the score; of a confirmation one of the other too."""
    score = _score(spec)
    points = [(at, spec.halves[0]) for at in range(1, 9)] + [(8, half) for half in spec.halves[1:]]
    return [
        Evaluation(
            step=spec.steps * at // 8,
            half=half,
            score=round(score * at / 8, 6),
            acc_pooled=round(score * at / 8, 6),
            loss=round(_loss(spec, score) + (8 - at) / 8, 6),
            examples=512,
        )
        for at, half in points
    ]


def _progress(run: Run) -> dict[str, Any]:
    """What a daemon says of an attempt that is halfway."""
    training = Training()
    for step in range(1, run.spec.steps // 2 + 1):
        wave = 0.3 * (step * 7 % 11) / 11
        training.take(
            {
                "step": step,
                "steps": run.spec.steps,
                "loss": 2.5 / (1 + step / 60) + wave,
                "tokens_per_s": 15_321.0,
            }
        )
    training.evaluated(asdict(_curve(run.spec)[3]))
    attempt = Attempt(spec=run.spec, try_number=run.try_number, sequence=0, outcome=None, outcome_class=None)
    return {**training.told(attempt, None), "left_s": 42.0}


def _loss(spec: AttemptSpec, score: float) -> float:
    """Less with a better score, but for one variant that disagrees; never equal for two variants."""
    if (spec.search, spec.variant) == ("kv_recall q_first", "raw_strong"):
        return round(2 + score, 6)
    return round(2 - score + 1e-4 * len(spec.variant), 6)


def _examples(spec: AttemptSpec) -> dict[Any, dict[str, Any]]:
    """Scores of 512 questions of a confirmation: of one token on kv_recall, of three on infill."""
    if spec.role != "confirm":
        return {}
    tokens = 3 if spec.task == "infill" else 1
    name = f"{spec.search} {spec.variant} {spec.seed}".encode()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name).digest()[:4], "big")))
    correct = rng.binomial(tokens, _score(spec), 512).astype("<i4")
    total, loss = np.full(512, tokens, "<i4"), np.ones(512, "<f8")
    return {"confirm": {"correct": correct, "total": total, "loss": loss}}


def _metrics(spec: AttemptSpec, score: float) -> dict[str, float]:
    """Whole answers, as every task has them; one search has another metric too."""
    found = {"whole_answer": score**3}
    return found | {"f1_values": score / 3} if spec.search == "kv_recall q_after" else found


def _score(spec: AttemptSpec) -> float:
    """Between 0 and 1, a function of what is trained and on which seed; growing with the steps."""
    search = spec.search
    effect = EFFECT[search].get(spec.variant, 0.0) * (1.0 if spec.role == "screen" else 1.1)
    spread = SPREAD.get(spec.variant, 0.002) if search == "kv_recall q_after" else 0.004
    if spec.variant == "scalar_l1" and search == "kv_recall q_first":
        return _score_of(search, "no_fs", spec.seed, 0.0, 0.004)  # an exact tie
    return _score_of(search, spec.variant, spec.seed, effect, spread)


def _score_of(search: str, variant: str, seed: int, effect: float, spread: float) -> float:
    noise = int.from_bytes(hashlib.sha256(f"{search} {variant} {seed}".encode()).digest()[:4], "big") / 2**32
    return round(BASE[search] + effect + spread * (2 * noise - 1), 6)
