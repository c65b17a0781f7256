"""What is written comes back as it was, to the bit."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fsearch.search.rows import Attempt
from fsearch.store import StoreConflict, open_reader

from .store_samples import CURVE, FACT, MODEL, RESULT, SAMPLES, SPEC, begin, ready, run_one, spec


def test_attempt_comes_back_to_the_bit(path: Path) -> None:
    """A finished attempt equals what was written in every field, floats by their bits, from both sides."""
    with ready(path) as store:
        run_one(store, 0)
        [written] = store.attempts()
    with open_reader(path) as reader:
        [read] = reader.attempts()
    expected = Attempt(
        spec=SPEC,
        try_number=1,
        sequence=2,
        outcome="completed",
        outcome_class="result",
        fingerprint="f1",
        fingerprints={"torch": "2.13", "threads": 2},
        daemon="d1",
        pid=4242,
        pid_started=99.25,
        started_at=read.started_at,
        ended_at=read.ended_at,
        **RESULT,
    )
    assert repr(read) == repr(expected)  # repr tells floats apart that == does not, and lists from tuples
    assert read == written == expected
    assert read.started_at and read.ended_at >= read.started_at


def test_nothing_of_the_sample_is_a_default() -> None:
    """The sample tells every field of a result apart from its absence, so that a lost column is seen."""
    never_ended = Attempt(spec=SPEC, try_number=1, sequence=1, outcome=None, outcome_class=None)
    same = {name for name, value in RESULT.items() if getattr(never_ended, name) == value}
    assert same == {"pattern", "screen_loss", "energy_mj"}


def test_infinite_loss_comes_back_and_nan_in_json_is_refused(path: Path) -> None:
    """An infinite loss is a number of the record; a NaN inside JSON is an error, with nothing written."""
    with ready(path) as store:
        begin(store, 0)
        ended = store.finish("a0", 1, "diverged", "configuration", "loss is inf", loss=float("inf"))
        assert ended.loss == float("inf") and store.attempts() == [ended]
        with pytest.raises(Exception, match="not JSON compliant"):
            begin(store, 1, recipe={"lr": float("nan")})
        assert len(store.attempts()) == 1


def test_facts_plans_details_come_back(path: Path) -> None:
    """Facts, plans, curves, samples, events and the daemon equal what was written."""
    correct, total = np.array([3, 0], np.int32), np.array([3, 4], np.int32)
    loss = np.array([0.1 + 0.2, 5e-324])
    with ready(path) as store:
        run_one(store, 0)
        store.put_fact(FACT)
        store.put_fact(MODEL)
        store.add_telemetry("a0", 1, SAMPLES)
        store.add_example_scores("a0", 1, "screen", correct=correct.tobytes(), total=total, loss=loss)
        first = store.event("info", "attempt a0 began", attempt="a0", try_number=1, plan="p1")
        second = store.event("error", "no space")
        store.beat("d1", "attempt a0, step 3", {"attempt": "a0", "losses": [0.1 + 0.2, None]})
    with open_reader(path) as reader:
        assert reader.facts() == {"d1": FACT}
        assert reader.models() == {MODEL.key: MODEL}
        [plan] = reader.plans()
        assert (plan.id, plan.position, plan.text) == ("p1", 1, "name: demo  # ü\n")
        assert reader.evaluations("a0", 1) == CURVE
        assert reader.telemetry("a0", 1) == SAMPLES
        scores = reader.example_scores("a0", 1, "screen")
        assert scores is not None
        for got, put in ((scores.correct, correct), (scores.total, total), (scores.loss, loss)):
            assert got.dtype == put.dtype and got.tobytes() == put.tobytes()
        assert reader.example_scores("a0", 1, "confirm") is None
        events = reader.events()
        assert [(event.sequence, event.level, event.attempt, event.try_number) for event in events] == [
            (first, "info", "a0", 1),
            (second, "error", None, None),
        ]
        assert reader.events(after=first, limit=5) == events[1:] and reader.events(limit=1) == events[1:]
        daemon = reader.daemon()
        assert daemon is not None
        assert (daemon.id, daemon.host, daemon.lock, daemon.step) == (
            "d1",
            "here",
            "cpu",
            "attempt a0, step 3",
        )
        assert daemon.progress == {"attempt": "a0", "losses": [0.1 + 0.2, None]}
        assert daemon.ended is None and daemon.sqlite_version.startswith("3.")


def test_scores_of_other_types_are_refused(path: Path) -> None:
    """Arrays whose lengths do not belong together (a wrong dtype, a missing example) are not written."""
    with ready(path) as store:
        begin(store, 0)
        ints = np.zeros(4, np.int64)
        with pytest.raises(ValueError, match="one length"):
            store.add_example_scores("a0", 1, "screen", correct=ints, total=ints, loss=np.zeros(4))
        assert store.example_scores("a0", 1, "screen") is None


def test_attempts_are_found_by_plan_search_and_id(path: Path) -> None:
    """What plans share is found by search key and id, in order of recording, each row once."""
    with ready(path) as store:
        store.add_plan("p2", name="other", path="", text="")
        for number, plan, key in ((3, "p1", "s1"), (1, "p2", "s1"), (2, "p2", "s2")):
            begin(store, number, plan=plan, search_key=key)

        def found(**lists: list[str]) -> list[str]:
            return [attempt.spec.id for attempt in store.attempts(**lists)]

        assert found() == ["a3", "a1", "a2"]
        assert found(plan_ids=["p1"]) == ["a3"]
        assert found(search_keys=["s1"]) == ["a3", "a1"]
        assert found(ids=["a2"], plan_ids=["p1"]) == ["a3", "a2"]
        assert found(plan_ids=["p2"], search_keys=["s1", "s2"]) == ["a3", "a1", "a2"]
        assert found(plan_ids=[]) == []
        assert found(ids=[f"a{n}" for n in range(50_000)]) == ["a3", "a1", "a2"]  # above SQLite's variables


def test_record_without_running(path: Path) -> None:
    """A static no-op is a whole row without a process."""
    with ready(path) as store:
        row = store.record(spec(5), "noop", "result", "layer 3 of 3 has no seed", "f1", daemon="d1")
        assert store.attempts() == [row]
        assert (row.outcome, row.pid, row.daemon, row.spec) == ("noop", None, "d1", spec(5))
        assert store.unfinished() == []


def test_sequence_orders_everything(path: Path) -> None:
    """Daemons, events and attempts draw from one counter, which no refused write consumes."""
    with ready(path) as store:  # the daemon drew 1
        assert store.event("info", "one") == 2
        begin(store, 0)
        assert store.attempts()[0].sequence == 3
        with pytest.raises(StoreConflict):
            store.begin(replace(SPEC, id="x", plan="unknown"), 1, "", {}, "d1", 1, None)
        store.finish("a0", 1, "completed", "result")  # its end drew 4
        assert store.attempts()[0].sequence == 3
        assert store.event("info", "two") == 5


def test_sample_fact_is_complete() -> None:
    """The sample fact leaves no field at its default."""
    assert all(value not in (None, "", 0, ()) for value in asdict(FACT).values())
