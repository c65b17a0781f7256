"""The two sides of `fsearch bench search`: a plan through the daemon, and through a process for each attempt.

The second side is in the style of the drafts. Each attempt is a fresh interpreter, which imports everything,
makes the data and loads the kernel, one after the other; a search begins with a probe of 25 steps; nothing is
kept from one process to the next but the compiled kernel, which theirs kept too. It has the same trainer and
takes the same decisions at no cost: they are made in the process that measures. It records nothing, recovers
from nothing and reports nothing, which the daemon does.

Both give, in seconds, where their time went; the parts add up to the wall time.
"""

from __future__ import annotations

import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from os import getpid
from pathlib import Path
from typing import Any

from fsearch.daemon import record_path
from fsearch.daemon.child import Child, start
from fsearch.daemon.host_memory import attempt_memory_mib
from fsearch.daemon.jobs import attempt_job
from fsearch.daemon.programs import command
from fsearch.daemon.results import figures
from fsearch.daemon.zygote import Zygote
from fsearch.plan import Plan
from fsearch.search.board import Note, Record, Run, Wait
from fsearch.search.ids import data_key
from fsearch.search.next_step import facts_as_recorded, next_step
from fsearch.search.outcomes import CLASSES
from fsearch.search.rows import AHEAD, Attempt, AttemptSpec, DataFact, Facts
from fsearch.store import open_reader
from fsearch.system.messages import Message
from fsearch.ui.errors import FAILED, UserError
from fsearch.ui.state import shown

PROBE_STEPS = 25
"""Steps of the drafts' probe of a batch."""

PARTS = ("start", "prepare", "probe", "load", "work", "rest")
"""Interpreters and imports; data; probes as a whole; loading; training and evaluating; what else there is."""

_SAME = ("score", "loss", "acc_pooled", "screen_score", "metrics", "steps_done", "tokens", "weights_sha256")


@dataclass(slots=True)
class Side:
    """What one side took, and the trainings that it made, by attempt."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of all its processes
    processes: int = 0  # interpreters that were started
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    trained: dict[str, Attempt] = field(default_factory=dict)

    def close(self, wall_s: float, cpu_s: float) -> None:
        """Its whole time; what no part has is the rest."""
        self.wall_s, self.cpu_s = wall_s, cpu_s
        self.parts["rest"] = 0.0
        self.parts["rest"] = wall_s - sum(self.parts.values())


def differences(one: Side, other: Side) -> list[str]:
    """The ids of the trainings that only one side has, or that differ in a digit."""

    def numbers(row: Attempt) -> tuple[object, ...]:
        return tuple(getattr(row, name) for name in _SAME)

    both = one.trained.keys() & other.trained.keys()
    changed = [name for name in both if numbers(one.trained[name]) != numbers(other.trained[name])]
    return sorted(changed) + sorted(one.trained.keys() ^ other.trained.keys())


def new_state(state: Path, folder: Path) -> Path:
    """A state in which nothing has run, with the kernel of another."""
    for name in ("logs", "checkpoints", "cache"):
        (folder / name).mkdir(parents=True)
    (folder / "cache" / "kernel").symlink_to((state / "cache" / "kernel").resolve())
    return folder


def facts_of(state: Path) -> Facts:
    """The data that a run has made, and what it trained under."""
    with open_reader(record_path(state)) as reader:
        return facts_as_recorded(reader.facts(), reader.models(), reader.last_fingerprints())


def through_the_daemon(plan: Path, state: Path, threads: int) -> Side:
    """Run a plan in a new state folder that has the kernel. Raises UserError unless it comes to its end."""
    log = state / "run.log"
    arguments = [str(getpid()), str(plan), str(state), str(threads)]
    cpu_s, began_s, began = _cpu_s(), time.perf_counter(), time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fsearch.ui.bench_run", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        code = process.wait()
    finally:
        process.kill()
        process.wait()
    wall_s = time.perf_counter() - began_s
    if code:
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"The plan was not run to its end (exit code {code}): {' '.join(said)}", FAILED)
    side = Side(processes=2)  # itself, and the one that forks
    with open_reader(record_path(state)) as reader:
        rows = reader.attempts()
    side.processes += sum(row.spec.role in AHEAD for row in rows)
    ran = [row for row in rows if row.spec.role not in AHEAD and row.pid is not None]
    side.parts["start"] = datetime.fromisoformat(ran[0].started_at).timestamp() - began
    for row in ran:
        _count(side, row, sum(row.seconds.values()))
    side.close(wall_s, _cpu_s() - cpu_s)
    return side


def through_processes(plan: Plan, state: Path, facts: Facts, threads: int) -> Side:
    """Run the same attempts one process each. `facts` are the other side's, which a process must come to too.

    Raises UserError where one of them fails.
    """
    facts = replace(facts, daemon="bench", memory_mib=attempt_memory_mib())
    record, side = Record(), Side()
    cpu_s, began_s = _cpu_s(), time.perf_counter()
    while isinstance(step := next_step(plan, facts, record, 0.0), Run | Note | Wait):
        sequence = len(record.at_hand) + 1
        if isinstance(step, Wait):
            raise UserError(f"The plan cannot be run here: {step.why}", FAILED)
        if isinstance(step, Note):
            record.add(_row(step.spec, sequence, step.outcome, step.fingerprint))
            continue
        row = _row(step.spec, sequence, None, facts.fingerprint(_data_of(step.spec, facts)))
        row = _in_a_process(step, row, state, facts, threads, side)
        side.processes += 1
        record.add(row)
    side.close(time.perf_counter() - began_s, _cpu_s() - cpu_s)
    return side


def bench_job(run: Run, fingerprint: str, facts: Facts, state: Path, threads: int) -> dict[str, Any]:
    """The job of an attempt from scratch, on the CPU, that keeps no checkpoint."""
    job = attempt_job(
        run,
        _data_of(run.spec, facts),
        None,
        fingerprint=fingerprint,
        device="cpu",
        threads=threads,
        backend=facts.backend,
        state=state,
    )
    return {**job, "checkpoint": None}


def heard(child: Child, zygote: Zygote | None = None) -> Iterator[Message]:
    """What a process says, as it says it, until it has ended; one that `zygote` forked is reaped there."""
    try:
        while not child.reader.closed:
            select.select(child.open, [], [])
            yield from child.read()
        while not child.ended:
            for death in zygote.deaths() if zygote else ():
                if death["exited"] == child.pid:
                    child.zygote_reported(int(death["status"]))
            time.sleep(0.001)
    except BaseException:
        child.kill()
        raise


def _data_of(spec: AttemptSpec, facts: Facts) -> DataFact:
    return facts.data[data_key(spec.task, spec.arguments, spec.master_seed)]


def _in_a_process(run: Run, row: Attempt, state: Path, facts: Facts, threads: int, side: Side) -> Attempt:
    """Train one attempt in a fresh interpreter, and count where its time goes. Gives its row."""
    job = bench_job(run, row.fingerprint, facts, state, threads)
    if run.spec.role == "probe":
        job["steps"] = PROBE_STEPS
    whole = {name: getattr(run.spec, name) for name in ("task", "arguments", "master_seed")}
    program = [*command("bench_attempt"), "--kernel-cache", str(state / "cache" / "kernel")]
    log = state / "logs" / "process.log"
    began_s = time.monotonic()
    child = start(program, {**whole, "attempt": job}, log)
    for _ in heard(child):
        pass
    took_s = time.monotonic() - began_s
    ending = child.close()
    if ending.result is None:
        raise UserError(f"A process for {run.spec.variant} failed. See {shown(log)}.", FAILED)
    row = replace(row, outcome=ending.result["outcome"], **figures(ending.result))
    row = replace(row, outcome_class=CLASSES[row.outcome or ""])
    if row.spec.role != "probe":
        side.parts["start"] += child.began["prepare"] - began_s
        side.parts["prepare"] += child.began["load"] - child.began["prepare"]
    _count(side, row, took_s)
    return row


def _count(side: Side, row: Attempt, took_s: float) -> None:
    """Add what an attempt took to the parts of its side."""
    if row.spec.role == "probe":
        side.parts["probe"] += took_s
        return
    side.trained[row.spec.id] = row
    load_s = row.seconds.get("load", 0.0)
    side.parts["load"] += load_s
    side.parts["work"] += sum(row.seconds.values()) - load_s


def _row(spec: AttemptSpec, sequence: int, outcome: str | None, fingerprint: str) -> Attempt:
    return Attempt(
        spec=spec,
        try_number=1,
        sequence=sequence,
        outcome=outcome,
        outcome_class=outcome and CLASSES[outcome],
        fingerprint=fingerprint,
        daemon="bench",
    )


def _cpu_s() -> float:
    """CPU time of all the processes that have ended and been waited for, theirs too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
