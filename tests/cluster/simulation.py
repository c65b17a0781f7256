"""A plan of many searches over many places, in simulated time: is every place busy, and what does it cost?

    python -m tests.cluster.simulation --searches 1000 --places 64

What decides and writes is real: `next_steps`, `expected_next`, the record with its file, the ledger with
every row, curve and score. Simulated are the trainings, which last as long as the table below says, and with
them the clock and the places; no process is started, and Ray is not there. What the daemon takes for one end
and the next start is measured and added to the simulated clock, during which the place stands idle.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsearch import tasks
from fsearch.daemon.child import Running
from fsearch.daemon.jobs import attempt_job
from fsearch.daemon.known import Known
from fsearch.daemon.ledger import Ledger
from fsearch.daemon.outcomes import Ending
from fsearch.plan import Plan, expand, parse
from fsearch.search.board import Note, Run, Wait
from fsearch.search.expected import expected_next
from fsearch.search.next_step import Done, Standing, next_steps
from fsearch.search.specs import prepare_spec
from fsearch.store import Store
from fsearch.tasks.prepared import code_sha256
from tests.stub import HALF
from tests.stub import attempt as stub

PLACES_A_NODE = 8

SECONDS = {"probe": (5.0, 10.0), "screen": (40.0, 80.0), "confirm": (120.0, 240.0)}
"""How long a training lasts, by its role: drawn evenly from between."""

PLAN = """
name: many searches
seed: 0
model: {{init: {{n_layer: 4, n_embd: 32, head_size: 8}}}}
train: {{lr: [{rates}]}}
stages:
  - {{name: quick, steps: 180}}
  - {{name: medium, steps: 560, seeds: 5}}
screen: {{prune_below: 0.01, promote_at_most: 2}}
variants: [scalar_l1, scalar_l2, head_l1, {{name: open, alpha: 1, layer_start: 1}}]
tasks:
  - {{task: kv_recall, order: q_after, n_train: 64, n_val: 32, batch: 8}}
"""


class Silent:
    """A listener that does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


class Simulated(Running):
    """A training that has nothing left but its result: the stand-in's, a function of its job."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        halves = [] if job["role"] == "probe" else job["halves"]
        scores = {half: stub._scores(job, half) for half in halves}
        for half in halves:
            point = {"step": job["steps"], "half": half, "examples": stub._examples(half)}
            self.take({"type": "evaluation", **point, **stub._headline(scores[half])})
        figures = stub._figures(job, scores)
        self.ending = Ending({"outcome": "completed", "reason": f"{job['steps']} steps", **figures})

    def read(self) -> list[dict[str, Any]]:
        return []

    open = ()
    ended = True

    def ask_to_stop(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> Ending:
        return self.ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a simulation came to. Seconds are simulated unless they are the driver's."""

    places: int
    attempts: int
    until_tail_s: float  # until the first moment at which a place found nothing to do
    whole_s: float
    utilisation: float  # of the places until then, 0..1
    utilisation_whole: float
    driver_s: float  # that the daemon worked, by the clock on the wall
    driver_cpu_s: float
    driver_mib: float  # that it took at most


def simulate(
    plan: Plan, folder: Path, places: int, *, charge: bool = True, seed: int = 0
) -> tuple[Figures, Standing]:
    """Run a plan to its end. `charge`: what the daemon takes counts as time, so that two runs differ."""
    (folder / "logs").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    with Store.open(folder / "fsearch.db") as store:
        store.add_plan(plan.id, name=plan.name, path="", text=plan.text)
        store.start_daemon("simulated", pid=1, pid_started=0.0, host="", plan=plan.name, lock="")
        known = Known(store, [plan], {"device": "simulated"}, "simulated")
        known.backend, known.memory_mib = "stub", 1000
        for search in expand(plan):
            known.keep_data(prepare_spec(search, ""), _data(folder, search.master_seed), ())
        ledger = Ledger(store, known, [plan], folder, Silent(), "simulated")
        return _Simulation(plan, known, ledger, folder, places, charge, seed).run()


class _Simulation:
    def __init__(
        self, plan: Plan, known: Known, ledger: Ledger, folder: Path, places: int, charge: bool, seed: int
    ) -> None:
        self.plan, self.known, self.ledger, self.folder = plan, known, ledger, folder
        self.charge, self.chance = charge, random.Random(seed)
        self.free = Counter({f"node{n}": 0 for n in range(-(-places // PLACES_A_NODE))})
        for number in range(places):
            self.free[f"node{number // PLACES_A_NODE}"] += 1
        self.places = places
        self.now_s = self.driver_s = 0.0
        self.ends: list[tuple[float, int, str, Simulated]] = []  # a heap: when, order, node
        self.begun: list[Simulated] = []  # of which nothing is expected yet
        self.busy_s: list[tuple[float, float]] = []  # of every attempt: from, to
        self.tail_s: float | None = None

    def run(self) -> tuple[Figures, Standing]:
        cpu_s = time.process_time()
        while True:
            standing = self._timed(self._fill)
            self._timed(self._expect)
            if standing is not None and not self.ends:
                break
            at_s, _, node, child = heapq.heappop(self.ends)
            self.now_s = max(self.now_s, at_s)
            self._timed(lambda node=node, child=child: self._end(node, child))
        until_s = self.now_s if self.tail_s is None else self.tail_s
        return (
            Figures(
                places=self.places,
                attempts=len(self.busy_s),
                until_tail_s=until_s,
                whole_s=self.now_s,
                utilisation=self._utilisation(until_s),
                utilisation_whole=self._utilisation(self.now_s),
                driver_s=self.driver_s,
                driver_cpu_s=time.process_time() - cpu_s,
                driver_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            ),
            standing,
        )

    def _timed(self, work: Any) -> Any:
        began_s = time.perf_counter()
        done = work()
        passed_s = time.perf_counter() - began_s
        self.driver_s += passed_s
        if self.charge:
            self.now_s += passed_s
        return done

    def _fill(self) -> Standing | None:
        """Give every free place its next work; the standing when there is none left."""
        while any(self.free.values()):
            steps = next_steps(self.plan, self.known.facts, self.known.record, self.now_s, self.free)
            if isinstance(steps, Note):
                self.ledger.note(steps)
                continue
            if isinstance(steps, Wait | Done):
                if self.tail_s is None:
                    self.tail_s = self.now_s
                return steps.standing if isinstance(steps, Done) else None
            for run in steps:
                self._begin(run)
        return None

    def _begin(self, run: Run) -> None:
        spec, data = run.spec, self.known.data_of(run.spec)
        fingerprint = self.known.facts.fingerprint(data)
        job = attempt_job(
            run,
            data,
            None,
            fingerprint=fingerprint,
            device="cpu",
            threads=1,
            backend="stub",
            state=self.folder,
        )
        child = Simulated(job)
        self.ledger.begin(child, run, fingerprint)
        self.begun.append(child)
        self.free[run.node] -= 1
        lasts_s = self.chance.uniform(*SECONDS[spec.role])
        self.busy_s.append((self.now_s, self.now_s + lasts_s))
        heapq.heappush(self.ends, (self.now_s + lasts_s, len(self.busy_s), run.node, child))

    def _expect(self) -> None:
        """What will follow each attempt that has begun, of which places would make a worker ready."""
        for child in self.begun:
            assert child.attempt is not None
            now = (self.known.facts, self.known.record, child.attempt, self.free, self.now_s)
            expected_next([self.plan], *now)
        self.begun = []

    def _end(self, node: str, child: Simulated) -> None:
        self.ledger.finish(child)
        self.free[node] += 1

    def _utilisation(self, until_s: float) -> float:
        worked_s = sum(max(0.0, min(to_s, until_s) - from_s) for from_s, to_s in self.busy_s)
        return worked_s / (self.places * until_s)


def _data(folder: Path, master_seed: int) -> dict[str, Any]:
    return {
        "path": str(folder),
        "sha256": f"{master_seed:064x}",
        "code_sha256": code_sha256(),
        "vocab_size": 8,
        "n_train": 64,
        "n_val_screen": HALF,
        "n_val_confirm": HALF,
        "max_tokens": 8,
        "chance": 0.125,
        "majority": 0.25,
    }


def plan_of(searches: int) -> Plan:
    """The plan above, with so many searches."""
    rates = ", ".join(f"{1e-5 * (1 + n / 1000):.8f}" for n in range(searches))
    return parse(PLAN.format(rates=rates), tasks.schemas(), "plan.yaml")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--places", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, standing = simulate(plan_of(arguments.searches), Path(folder) / "state", arguments.places)
    assert standing.finished
    print(json.dumps({name: getattr(figures, name) for name in figures.__slots__}, indent=1))


if __name__ == "__main__":
    main()
