"""What the daemon writes down: how each attempt began and ended, and what a person would want to know.

Whatever is written is told to the listener too, after it is in the record.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from pathlib import Path

from fsearch.daemon.child import Running
from fsearch.daemon.jobs import remove_checkpoints
from fsearch.daemon.known import Known
from fsearch.daemon.listener import Listener
from fsearch.daemon.logs import remove_oldest
from fsearch.daemon.network import network_news
from fsearch.daemon.outcomes import outcome_of
from fsearch.daemon.results import evaluation, figures
from fsearch.plan import Plan
from fsearch.search.board import Difference, Note, Run, differences
from fsearch.search.next_step import boards_of
from fsearch.search.outcomes import CLASSES
from fsearch.search.rows import AHEAD, Attempt, AttemptSpec
from fsearch.store import Store
from fsearch.store.records import Level
from fsearch.system.process import kill_group, start_time


class Ledger:
    """The rows and events of one daemon."""

    def __init__(
        self,
        store: Store,
        known: Known,
        plans: Sequence[Plan],
        state: Path,
        listener: Listener,
        daemon_id: str,
    ) -> None:
        self._store = store
        self._known = known
        self._plans = plans
        self._state = state
        self._listener = listener
        self._daemon_id = daemon_id

    def begin(self, child: Running, run: Run, fingerprint: str) -> None:
        fingerprints = self._known.fingerprints(run.spec)
        if run.node and run.spec.role not in AHEAD:
            fingerprints["node"] = run.node
        child.attempt = self._known.keep(
            self._store.begin(
                run.spec,
                run.try_number,
                fingerprint,
                fingerprints,
                self._daemon_id,
                child.pid,
                child.pid_started,
            )
        )
        self._listener.attempt_started(run.spec, run.try_number)

    def finish(self, child: Running) -> Attempt:
        """Write down how an attempt ended: details first, the outcome last."""
        ending = child.close()
        assert child.attempt is not None
        outcome = outcome_of(ending)
        spec, try_number = child.attempt.spec, child.attempt.try_number
        result = ending.result if ending.result is not None and not ending.torn else {}
        if spec.role == "prepare" and outcome.word == "completed":
            self._known.keep_data(spec, result["data"], result.get("origins", ()))
        elif spec.role == "inspect" and outcome.word == "completed":
            self._known.keep_model(spec, result["model"])
        elif outcome.word == "model_changed":
            self._known.forget_changed_models()
        self._store.add_evaluations(spec.id, try_number, [evaluation(point) for point in child.evaluations])
        for half, blobs in result.get("examples", {}).items():
            arrays = {name: base64.b64decode(blob) for name, blob in blobs.items()}
            self._store.add_example_scores(spec.id, try_number, half, **arrays)
        for half, blobs in result.get("example_metrics", {}).items():
            values = {name: base64.b64decode(blob) for name, blob in blobs.items()}
            self._store.add_example_metrics(spec.id, try_number, half, values)
        row = self._store.finish(
            spec.id,
            try_number,
            outcome.word,
            outcome.outcome_class,
            outcome.reason,
            pattern=outcome.pattern,
            ended_monotonic_s=time.monotonic(),
            retry_after_s=outcome.retry_after_s,
            energy_mj=child.energy_mj,
            idle_s=child.idle_s,
            **figures(result),
        )
        news = network_news(self._known.record.tries(spec.id, row.fingerprint), row)
        self._known.keep(row)
        if outcome.outcome_class in ("result", "configuration"):
            remove_checkpoints(self._state, spec.id)
        remove_oldest(self._state / "logs")
        if step := result.get("resumed_from_step"):
            self.event("info", f"{name_of(spec)} went on from its checkpoint at step {step}")
        late = result.get("late_torch_imports")
        if late:
            self.event("warning", f"{spec.id} imported torch modules after its fork: {', '.join(late)}")
        self._listener.attempt_ended(row, self._difference(row))
        if news:
            self.event("info", news)
        return row

    def note(self, note: Note) -> None:
        row = self._store.record(
            note.spec,
            note.outcome,
            CLASSES[note.outcome],
            note.reason,
            fingerprint=note.fingerprint,
            daemon=self._daemon_id,
            try_number=self._known.record.next_try_number(note.spec.id),
        )
        self._known.keep(row)
        self._listener.attempt_ended(row, None)

    def end_what_the_last_daemon_left(self) -> None:
        for row in self._store.unfinished():  # killed first: once noted as ended, nobody would look again
            if row.pid is not None and start_time(row.pid) == row.pid_started:
                kill_group(row.pid)
        for row in self._store.interrupt_unfinished("the daemon that ran it died", "daemon died"):
            self._known.keep(row)

    def log_of(self, spec: AttemptSpec, try_number: int) -> Path:
        """Where what a process prints goes: no file, if it prints nothing."""
        return self._state / "logs" / f"{spec.id}-{try_number}.log"

    def event(self, level: Level, text: str) -> None:
        self._store.event(level, text)
        self._listener.event(level, text)

    def _difference(self, row: Attempt) -> Difference | None:
        for plan in self._plans:
            boards, _ = boards_of(plan, self._known.facts, self._known.record)
            for board in boards:
                if row.spec.id in board.asked and (found := differences(board).get(row.spec.id)):
                    return found
        return None


def name_of(spec: AttemptSpec) -> str:
    """An attempt as a person would call it."""
    seed = f"seed {spec.seed}" if spec.variant else ""
    return " ".join(part for part in (spec.search, spec.stage, spec.variant, seed) if part)
