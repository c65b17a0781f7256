"""The daemon: a loop of named steps around one pure function.

    read what the processes say -> write down what ended -> end what hangs -> replace a dead zygote
    -> look for room on the disk -> start preparations -> start the next attempt
    -> have the one after it made ready -> sleep until something happens

It decides nothing: what comes next is `fsearch.search.next_step`, what an ending means is
`fsearch.daemon.outcomes`. It keeps no state that the record does not have, apart from the processes
that run. It imports no torch and is the only writer of the record.
"""

from __future__ import annotations

import selectors
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsearch.daemon.backups import Backups
from fsearch.daemon.card import Card
from fsearch.daemon.child import Child, spawn
from fsearch.daemon.devices import Device
from fsearch.daemon.fingerprint import environment
from fsearch.daemon.hindrance import Hindrance
from fsearch.daemon.host_memory import attempt_memory_mib
from fsearch.daemon.jobs import build_job, inspect_job, prepare_job, remove_stale_checkpoints
from fsearch.daemon.known import Known
from fsearch.daemon.ledger import Ledger, name_of
from fsearch.daemon.listener import Listener
from fsearch.daemon.notify import Notifier
from fsearch.daemon.stop import StopSignals
from fsearch.daemon.telemetry import Telemetry
from fsearch.daemon.workers import Workers
from fsearch.daemon.zygote import Zygote, ZygoteDied
from fsearch.plan import Plan
from fsearch.search.ahead import build_standing, next_preparation
from fsearch.search.board import Note, Run, Wait
from fsearch.search.next_step import Done, next_step, standing_of
from fsearch.search.outcomes import Open
from fsearch.search.rows import AHEAD, Attempt
from fsearch.store import Store, StoreError
from fsearch.system.disk import shortage
from fsearch.system.process import lives

TICK_S = 0.2
BEAT_EVERY_S = 1.0
STOP_DEADLINE_S = 30.0
NO_KERNEL = "torch-chunked"


class Daemon:
    """One run of `fsearch run`: from the locked device and the open record to an exit code."""

    def __init__(
        self,
        plans: list[Plan],
        store: Store,
        state: Path,
        zygote: Zygote,
        *,
        device: Device,
        threads: int,
        daemon_id: str,
        stop: StopSignals,
        listener: Listener,
        backups: Backups,
    ) -> None:
        self.plans = plans
        self.store = store
        self.state = state
        self.zygote = zygote
        self.device = device
        self.id = daemon_id
        self.listener = listener
        self.stop = stop
        self.backups = backups
        store.hindered = self.hindrance = Hindrance(listener, stop)
        self.notifier = Notifier(plans, store, state)
        self.hindrance.meanwhile = self.notifier.stands
        self.known = Known(store, plans, environment(device.model, threads), daemon_id)
        self.ledger = Ledger(store, self.known, plans, state, listener, daemon_id)
        self.card = Card(device.uuid, self.ledger.event) if device.uuid else None
        self.known.memory_mib = self.card.attempt_memory_mib if self.card else attempt_memory_mib()
        self.workers = Workers(plans, self.known, self.ledger, device, threads, state)
        self.telemetry = Telemetry(store, self.card) if self.card else None
        self.worker: Child | None = None  # the one process that uses the device
        self.preparations: dict[bool, Child] = {}  # at most one that downloads, and one that does not
        self.waits: list[Wait] = []  # what keeps each unfinished plan from training
        self._beat_s = 0.0
        self._short_of_room = ""

    def run(self) -> int:
        """Run the plans to their end. Gives the exit code.

        0, or 75 if something was given up because `limits.wait_network` was over, or 130 if it was stopped.
        """
        try:
            code = self._to_the_end()
            if code:
                self.notifier.stopped("by a signal" if code == 130 else "what it downloads was not to be had")
            return code
        except Exception as error:
            self.notifier.stopped("by a signal" if self.stop.count else str(error))
            raise
        finally:
            for failure in self.notifier.close(self.known, self.stop):
                with suppress(StoreError):
                    self.ledger.event("warning", failure)

    def _to_the_end(self) -> int:
        self._back_up()  # while torch is loaded
        self.ledger.end_what_the_last_daemon_left()
        remove_stale_checkpoints(self.state, self.known.record, self.known.facts.environment)
        self._wait_for_zygote()
        while True:
            self._back_up()
            self._read_messages()
            self._write_down_what_ended()
            self._end_what_hangs()
            self._watch_the_card()
            if self.stop.count:
                if self._stopped():
                    return 130
            else:
                self._replace_a_dead_zygote()
                self._look_for_room()
                self._start_preparations()
                if self._start_the_next_attempt() == "finished":
                    return 75 if self._gave_a_download_up() else 0
                self.workers.look_ahead(None if self._short_of_room else self.worker, self.zygote)
            for failure in self.notifier.tend(self.known):
                self.ledger.event("warning", failure)
            self._beat()
            self._sleep()

    # The steps

    def _read_messages(self) -> None:
        for child in self._children():
            for message in child.read():
                if message.get("type") == "notice" and child.attempt:
                    self.ledger.event("warning", f"{name_of(child.attempt.spec)}: {message['text']}")
                if message.get("type") != "progress" or child is not self.worker or not child.attempt:
                    continue
                if "doing" in message:
                    self.listener.doing(child.attempt.spec, message["doing"])
                elif "step" in message:
                    self.listener.progress(
                        child.attempt.spec,
                        message["step"],
                        message["steps"],
                        message.get("loss"),
                        message.get("tokens_per_s"),
                    )
        for death in self.zygote.deaths():
            if self.worker and self.worker.is_worker and self.worker.pid == death["exited"]:
                self.worker.zygote_reported(int(death["status"]))
        worker = self.worker
        orphaned = worker is not None and worker.is_worker and not worker.ended and not self.zygote.alive
        if worker is not None and orphaned and not lives(worker.pid, worker.pid_started):
            worker.ending.zygote_died = True
            worker.zygote_reported(signal.SIGKILL)

    def _write_down_what_ended(self) -> None:
        if self.worker and self.worker.ended:
            child, self.worker = self.worker, None
            if self.telemetry:
                self.telemetry.end()
            self.workers.ended(child)
            row = self.ledger.finish(child)
            self.notifier.row_ended(row, self.known)
            if row.spec.role == "build":
                self._use_kernel(row)
        for downloads, child in list(self.preparations.items()):
            if child.ended:
                del self.preparations[downloads]
                self.notifier.row_ended(self.ledger.finish(child), self.known)

    def _end_what_hangs(self) -> None:
        for child in self._children():
            if child.overdue():
                child.read()  # what it has said while the record kept us waiting
            if child.overdue() and not child.ended and child.ending.silent_s is None:
                child.ending.silent_s = child.silent_s()
                child.kill()

    def _watch_the_card(self) -> None:
        """Take a reading of the GPU; an attempt on one that is lost would wait for it for ever."""
        if self.card is None or self.telemetry is None:
            return
        self.telemetry.sample()
        child = self.worker
        if self.card.lost and child and child.is_worker and not child.ended and not child.ending.gpu_lost:
            child.ending.gpu_lost = True
            child.kill()

    def _replace_a_dead_zygote(self) -> None:
        if not self.zygote.alive and self.worker is None:
            self.ledger.event("warning", "the process that forks workers died; a new one is started")
            self.zygote.end()
            self._new_zygote()

    def _start_preparations(self) -> None:
        """Two places, so that a hub that hangs never keeps data waiting that are here."""
        if self._short_of_room:
            return
        for downloads in (False, True):
            if downloads in self.preparations:
                continue
            now_s = time.monotonic()
            facts, record = self.known.facts, self.known.record
            run = next_preparation(self.plans, facts, record, now_s, downloads=downloads)
            if run is not None:
                job = prepare_job(run.spec, self.state / "cache" / "data", self.known.pins)
                child = spawn("prepare", job, self.ledger.log_of(run.spec, run.try_number))
                self.preparations[downloads] = child
                self.ledger.begin(child, run, self.known.facts.environment)

    def _start_the_next_attempt(self) -> str:
        """Give the device its next work: "finished" when every plan is done."""
        if self.worker is not None:
            return "running"
        self.waits = []
        for plan in self.plans:
            while isinstance(step := self._next_step(plan), Note):
                self.ledger.note(step)
            if self._short_of_room and not isinstance(step, Done):
                self.waits = [Wait(None, self._short_of_room)]
                return "waiting"
            if isinstance(step, Run):
                held = self._held_by_the_last(step)
                if held is None:
                    self._start(step)
                    return "running"
                self.waits = [Wait(None, held)]
                return "waiting"
            if isinstance(step, Wait):
                self.waits.append(step)
        return "waiting" if self.waits or self.preparations else "finished"

    def _look_for_room(self) -> None:
        """See whether the disk has room for what another process writes. When that changes, it is told."""
        short = shortage(self.state)
        if short and not self._short_of_room:
            self.ledger.event("warning", short)
        elif self._short_of_room and not short:
            self.ledger.event("info", f"there is room again on the disk of {self.state}")
            self.notifier.waits_no_more("room")
        if short:
            self.workers.forget()
            self.notifier.waits("room", "disk", short)
        self._short_of_room = short

    def _held_by_the_last(self, run: Run) -> str | None:
        """What a training waits for: memory of the GPU that the one before has not given back yet."""
        if self.card is None or run.spec.role in AHEAD:
            return None
        return self.card.waits_for(time.monotonic())

    def _gave_a_download_up(self) -> bool:
        standings = (standing_of(plan, self.known.facts, self.known.record) for plan in self.plans)
        return any(board.outage for standing in standings for board in standing.boards)

    def _next_step(self, plan: Plan) -> Run | Note | Wait | Done:
        return next_step(plan, self.known.facts, self.known.record, time.monotonic())

    def _stopped(self) -> bool:
        """Stop what runs; True once nothing does. A second signal does not wait."""
        self.workers.forget()
        children = self._children()
        for child in children:
            if not child.ending.stopped:
                child.ask_to_stop()
        if self.stop.count > 1 or self.stop.asked_for_s() > STOP_DEADLINE_S:
            for child in children:
                child.kill()
        return not children

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beat_s >= BEAT_EVERY_S:
            self._beat_s = now
            self.store.beat(self.id, self._step_text(), self._progress())
            if self.worker is None and self.waits:
                wait = min(self.waits, key=lambda wait: (wait.until_s is None, wait.until_s))
                self.listener.waiting(wait.why, wait.left_s(now))

    def _back_up(self) -> None:
        if went_wrong := self.backups.tend():
            self.ledger.event("warning", went_wrong)
        if paused := self.hindrance.over():
            self.ledger.event("info", paused)

    def _sleep(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.stop.wakeup_fd, selectors.EVENT_READ)
            if self.zygote.alive:
                selector.register(self.zygote.socket, selectors.EVENT_READ)
            for child in self._children():
                for source in child.open:
                    selector.register(source, selectors.EVENT_READ)
            selector.select(TICK_S)
        self.stop.drain()

    # Starting one attempt, and what a build means for those after it

    def _start(self, run: Run) -> None:
        role = run.spec.role
        if role == "build":
            job = build_job(self.state / "cache" / "kernel", self.device.cuda)
            child = spawn("build", job, self.ledger.log_of(run.spec, run.try_number))
            fingerprint = self.known.facts.environment
        elif role == "inspect":
            child = spawn(
                "inspect",
                inspect_job(run.spec.model["checkpoint"]),
                self.ledger.log_of(run.spec, run.try_number),
            )
            fingerprint = self.known.facts.environment
        else:
            fingerprint = self.known.facts.fingerprint(self.known.data_of(run.spec))
            if self.telemetry:
                self.telemetry.before()
            try:
                child = self.workers.start(run, self.zygote)
            except ZygoteDied:
                self.zygote.end()  # replaced in the next round, and the attempt asked for again
                return
        self.worker = child
        self._beat_s = 0.0  # so that nobody is shown the step of the attempt before
        self.ledger.begin(child, run, fingerprint)
        if self.telemetry and child.is_worker:
            self.telemetry.begin(child)

    def _use_kernel(self, row: Attempt) -> None:
        """After a build: the zygote loads the kernel; without one everything goes on with the fallback."""
        if row.outcome == "completed":
            self.zygote.end()
            self._new_zygote()
        elif isinstance(build_standing(self.plans[0], self.known.facts, self.known.record), Open):
            return  # it is tried again
        if not self.known.backend:
            self.known.backend = NO_KERNEL
            self.ledger.event(
                "warning", f"no compiled kernel, training goes on with {NO_KERNEL}: {row.reason}"
            )

    # Around it

    def _children(self) -> list[Child]:
        return [*([self.worker] if self.worker else []), *self.preparations.values()]

    def _wait_for_zygote(self) -> None:
        """Wait until torch is loaded. A zygote that is killed meanwhile is replaced, at most twice."""
        for killed in range(3):
            try:
                self.known.backend = self.zygote.wait_ready() or self.known.backend
                return
            except ZygoteDied:
                self.zygote.end()
                if killed == 2 or self.zygote.process.returncode >= 0:
                    raise
                self.zygote = self.zygote.successor()

    def _new_zygote(self) -> None:
        """A new zygote in the place of one that has ended, with the kernel if it is built by now."""
        self.zygote = self.zygote.successor()
        self._wait_for_zygote()

    def _step_text(self) -> str:
        if self.stop.count:
            return "stopping"
        if self.worker is None or self.worker.attempt is None:
            now_s = time.monotonic()
            return "; ".join(wait.told(now_s) for wait in self.waits) or "between attempts"
        spec, progress = self.worker.attempt.spec, self.worker.progress
        name = name_of(spec)
        if "step" in progress:
            return f"{name}: step {progress['step']} of {progress['steps']}"
        return f"{name}: {progress.get('doing', self.worker.ending.phase)}"

    def _progress(self) -> dict[str, Any]:
        """What the attempt that trains has said, for screens."""
        child = self.worker
        if child is None or child.attempt is None:
            return {}
        return child.training.told(child.attempt, self.telemetry.latest if self.telemetry else None)


def new_daemon_id() -> str:
    return uuid.uuid4().hex[:12]
