"""The daemon: a loop of named steps around one pure function.

    read what the processes say -> write down what ended -> end what hangs -> replace what has died
    -> look for room on the disk -> start preparations -> start the next attempts
    -> have those after them made ready -> sleep until something happens

It decides nothing: what comes next is `fsearch.search.next_step`, what an ending means is
`fsearch.daemon.outcomes`; where things run is `fsearch.daemon.places`. It keeps no state that the record
does not have, apart from the processes that run. It imports no torch and is the only writer of the record.
"""

from __future__ import annotations

import selectors
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsearch.daemon.backups import Backups
from fsearch.daemon.child import Child, Running, spawn
from fsearch.daemon.hindrance import Hindrance
from fsearch.daemon.jobs import attempt_job, build_job, inspect_job, prepare_job, remove_stale_checkpoints
from fsearch.daemon.known import Known
from fsearch.daemon.ledger import Ledger, name_of
from fsearch.daemon.listener import Listener
from fsearch.daemon.notify import Notifier
from fsearch.daemon.places import NO_KERNEL, Place, Places
from fsearch.daemon.stop import StopSignals
from fsearch.daemon.training import progress_of
from fsearch.daemon.zygote import ZygoteDied
from fsearch.plan import Plan
from fsearch.search.ahead import build_standing, next_preparation
from fsearch.search.board import Note, Run, Wait, first_over
from fsearch.search.expected import expected_next
from fsearch.search.next_step import Done, next_steps, standing_of
from fsearch.search.outcomes import Open
from fsearch.search.rows import AHEAD, Attempt
from fsearch.store import Store, StoreError
from fsearch.system.disk import shortage

TICK_S = 0.2
BEAT_EVERY_S = 1.0
STOP_DEADLINE_S = 30.0
NO_PLACE = "waiting for a place to train in"


class Daemon:
    """One run of `fsearch run`: from the places and the open record to an exit code."""

    def __init__(
        self,
        plans: list[Plan],
        store: Store,
        state: Path,
        places: Places,
        *,
        threads: int,
        daemon_id: str,
        stop: StopSignals,
        listener: Listener,
        backups: Backups,
    ) -> None:
        self.plans = plans
        self.store = store
        self.state = state
        self.places = places
        self.threads = threads
        self.id = daemon_id
        self.listener = listener
        self.stop = stop
        self.backups = backups
        store.hindered = self.hindrance = Hindrance(listener, stop)
        self.notifier = Notifier(plans, store, state)
        self.hindrance.meanwhile = self.notifier.stands
        self.known = Known(store, plans, places.environment, daemon_id)
        self.ledger = Ledger(store, self.known, plans, state, listener, daemon_id)
        places.use(store, self.ledger.event)
        self.known.memory_mib = places.memory_mib
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
        self._use_backend(self.places.start_up())
        while True:
            self._back_up()
            self._read_messages()
            self._write_down_what_ended()
            self._end_what_hangs()
            if self.stop.count:
                if self._stopped():
                    return 130
            else:
                self._use_backend(self.places.mend())
                self._look_for_room()
                self._start_preparations()
                if self._start_the_next_attempts() == "finished":
                    return 75 if self._gave_a_download_up() else 0
                self._make_the_next_ready()
            for failure in self.notifier.tend(self.known):
                self.ledger.event("warning", failure)
            self._beat()
            self._sleep()

    # The steps

    def _read_messages(self) -> None:
        self.places.hear()
        for child in self._children():
            for message in child.read():
                if message.get("type") == "notice" and child.attempt:
                    self.ledger.event("warning", f"{name_of(child.attempt.spec)}: {message['text']}")
                prepares = child in self.preparations.values()
                if message.get("type") != "progress" or prepares or not child.attempt:
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

    def _write_down_what_ended(self) -> None:
        for place in self._busy():
            if place.child and place.child.ended:
                row = self.ledger.finish(place.leave())
                self.notifier.row_ended(row, self.known)
                if row.spec.role == "build":
                    self._use_kernel(row)
        for downloads, child in list(self.preparations.items()):
            if child.ended:
                del self.preparations[downloads]
                self.notifier.row_ended(self.ledger.finish(child), self.known)

    def _end_what_hangs(self) -> None:
        for child in self._children():
            child.end_if_it_hangs()

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

    def _start_the_next_attempts(self) -> str:
        """Give every free place its next work: "finished" when every plan is done."""
        self.waits = []
        for plan in self.plans:
            if not (free := self._free()):
                self.waits = [] if self._busy() else [Wait(None, NO_PLACE)]
                return "running"
            while isinstance(steps := self._next_steps(plan), Note):
                self.ledger.note(steps)
            if isinstance(steps, Done):
                continue
            if self._short_of_room:
                self.waits = [Wait(None, self._short_of_room)]
                return "waiting"
            if isinstance(steps, Wait):
                self.waits.append(steps)
                continue
            for run in steps:
                place = next(place for place in free if place.node == run.node and place.child is None)
                held = place.held() if run.spec.role not in AHEAD else None
                if held is not None:
                    self.waits = [Wait(None, held)]
                    return "waiting"
                if not self._start(run, place):
                    return "waiting"
        return "waiting" if self.waits or self._children() else "finished"

    def _next_steps(self, plan: Plan) -> Sequence[Run] | Note | Wait | Done:
        free = Counter({place.node: 0 for place in self.places.places})
        free.update(place.node for place in self._free())
        return next_steps(plan, self.known.facts, self.known.record, time.monotonic(), free)

    def _free(self) -> list[Place]:
        return [place for place in self.places.places if place.child is None and place.ready]

    def _busy(self) -> list[Place]:
        return [place for place in self.places.places if place.child is not None]

    def _make_the_next_ready(self) -> None:
        """Of each attempt that trains, once: have its place make the worker ready that will likely follow."""
        if self._short_of_room:
            return
        nodes = {place.node for place in self.places.places}
        for place in self._busy():
            child = place.child
            if child is None or child.attempt is None or child.followed or not child.trains:
                continue
            child.followed = True
            facts, record = self.known.facts, self.known.record
            run = expected_next(self.plans, facts, record, child.attempt, nodes, time.monotonic())
            if run is not None:
                place.make_ready(self._job(run), self.ledger.log_of(run.spec, run.try_number))

    def _forget_those_ready(self) -> None:
        for place in self.places.places:
            place.forget()

    def _look_for_room(self) -> None:
        """See whether the disk has room for what another process writes. When that changes, it is told."""
        short = shortage(self.state)
        if short and not self._short_of_room:
            self.ledger.event("warning", short)
        elif self._short_of_room and not short:
            self.ledger.event("info", f"there is room again on the disk of {self.state}")
            self.notifier.waits_no_more("room")
        if short:
            self._forget_those_ready()
            self.notifier.waits("room", "disk", short)
        self._short_of_room = short

    def _gave_a_download_up(self) -> bool:
        standings = (standing_of(plan, self.known.facts, self.known.record) for plan in self.plans)
        return any(board.outage for standing in standings for board in standing.boards)

    def _stopped(self) -> bool:
        """Stop what runs; True once nothing does. A second signal does not wait."""
        self._forget_those_ready()
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
            self.store.beat(self.id, self._step_text(), progress_of(self.places.places))
            if not self._busy() and (wait := first_over(self.waits)):
                self.listener.waiting(wait.why, wait.left_s(now))

    def _back_up(self) -> None:
        if went_wrong := self.backups.tend():
            self.ledger.event("warning", went_wrong)
        if paused := self.hindrance.over():
            self.ledger.event("info", paused)

    def _sleep(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.stop.wakeup_fd, selectors.EVENT_READ)
            for source in (*self.places.sources, *(one for child in self._children() for one in child.open)):
                selector.register(source, selectors.EVENT_READ)
            selector.select(TICK_S)
        self.stop.drain()

    # Starting one attempt, and what a build means for those after it

    def _start(self, run: Run, place: Place) -> bool:
        """Start an attempt, if it can be. What makes ready for training is a process of this machine."""
        role, log = run.spec.role, self.ledger.log_of(run.spec, run.try_number)
        fingerprint = self.known.facts.environment
        child: Running
        if role == "build":
            child = spawn("build", build_job(self.state / "cache" / "kernel", self.places.device.cuda), log)
        elif role == "inspect":
            child = spawn("inspect", inspect_job(run.spec.model["checkpoint"]), log)
        else:
            job = self._job(run)
            fingerprint = job["fingerprint"]
            try:
                child = place.fork(job, log)
            except ZygoteDied:
                return False  # replaced in the next round, and the attempt asked for again
        place.child = child
        self._beat_s = 0.0  # so that nobody is shown the step of the attempt before
        self.ledger.begin(child, run, fingerprint)
        place.began()
        return True

    def _job(self, run: Run) -> dict[str, Any]:
        data = self.known.data_of(run.spec)
        return attempt_job(
            run,
            data,
            self.known.model_of(run.spec),
            fingerprint=self.known.facts.fingerprint(data),
            device=self.places.device.torch,
            threads=self.threads,
            backend=self.known.backend,
            state=self.state,
        )

    def _use_kernel(self, row: Attempt) -> None:
        """After a build: the zygote loads the kernel; without one everything goes on with the fallback."""
        if row.outcome == "completed":
            self._use_backend(self.places.renew())
        elif isinstance(build_standing(self.plans[0], self.known.facts, self.known.record), Open):
            return  # it is tried again
        if not self.known.backend:
            self.known.backend = NO_KERNEL
            self.ledger.event(
                "warning", f"no compiled kernel, training goes on with {NO_KERNEL}: {row.reason}"
            )

    # Around it

    def _children(self) -> list[Running]:
        here = [place.child for place in self.places.places if place.child is not None]
        return [*here, *self.preparations.values()]

    def _use_backend(self, backend: str) -> None:
        self.known.backend = backend or self.known.backend

    def _step_text(self) -> str:
        if self.stop.count:
            return "stopping"
        children = [place.child for place in self._busy() if place.child and place.child.attempt]
        if not children:
            now_s = time.monotonic()
            return "; ".join(wait.told(now_s) for wait in self.waits) or "between attempts"
        return "; ".join(_doing(child) for child in children)


def _doing(child: Running) -> str:
    """What an attempt is doing, for people."""
    assert child.attempt is not None
    name, progress = name_of(child.attempt.spec), child.progress
    if "step" in progress:
        return f"{name}: step {progress['step']} of {progress['steps']}"
    return f"{name}: {progress.get('doing', child.ending.phase)}"


def new_daemon_id() -> str:
    return uuid.uuid4().hex[:12]
