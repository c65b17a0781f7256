"""A transition made twice is made once; one that contradicts the record is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fsearch.store import Evaluation, Store, StoreConflict

from .store_samples import CURVE, FACT, MODEL, RESULT, SAMPLES, begin, contents, ready, run_one, spec

ONES = b"\1\0\0\0"


def write_everything(store: Store) -> None:
    store.add_plan("p1", name="renamed", path="elsewhere", text="changed")
    store.start_daemon("d1", pid=1, pid_started=None, host="elsewhere", plan="", lock="")
    store.put_fact(FACT)
    run_one(store, 0)
    store.add_telemetry("a0", 1, SAMPLES)
    store.add_example_scores("a0", 1, "screen", correct=ONES, total=ONES, loss=ONES + ONES)
    store.record(spec(1), "noop", "result", "static")
    store.end_daemon("d1")


def test_everything_twice_changes_nothing(path: Path) -> None:
    """The second call of every transition leaves the database as it was, byte for byte."""
    with ready(path) as store:
        write_everything(store)
    before = contents(path.parent)
    with Store.open(path) as store:
        write_everything(store)
        assert store.plans()[0].name == "demo"
    assert contents(path.parent) == before


def test_a_point_of_a_curve_stays(path: Path) -> None:
    """Of evaluations sent again only the missing ones are added."""
    with ready(path) as store:
        begin(store, 0)
        store.add_evaluations("a0", 1, CURVE[:1])
        other = Evaluation(step=90, half="screen", score=0.99, acc_pooled=0.9, loss=0.1, examples=2)
        store.add_evaluations("a0", 1, [other, CURVE[1]])
        store.add_evaluations("a0", 1, [])
        assert store.evaluations("a0", 1) == CURVE


def test_a_fact_is_replaced(path: Path) -> None:
    """A changed fact takes the place of the former."""
    with ready(path) as store:
        store.put_fact(FACT)
        store.put_fact(replace(FACT, sha256="0" * 64))
        assert store.facts() == {"d1": replace(FACT, sha256="0" * 64)}


def test_a_model_is_forgotten_and_nothing_else(path: Path) -> None:
    """A checkpoint's fact goes by its key, as often as asked; facts about data of that name stay."""
    with ready(path) as store:
        store.put_fact(FACT)
        for key in ("d1", "other"):
            store.put_fact(replace(MODEL, key=key))
        for _ in range(2):
            store.forget_model("d1")
            assert store.models() == {"other": replace(MODEL, key="other")}
        assert store.facts() == {"d1": FACT}


CONTRADICTIONS: dict[str, Callable[[Store], object]] = {
    "another outcome": lambda store: store.finish("a0", 1, "oom", "configuration"),
    "recorded otherwise": lambda store: store.record(spec(0), "noop", "result"),
    "recorded while running": lambda store: store.record(spec(2), "noop", "result"),
    "end without begin": lambda store: store.finish("a9", 1, "completed", "result", **RESULT),
    "begun by another daemon": lambda store: store.begin(spec(2), 1, "f1", {}, "d2", 4242, 99.25),
    "unknown plan": lambda store: begin(store, 3, plan="p9"),
    "unknown daemon": lambda store: begin(store, 3, daemon="d9"),
    "curve of no attempt": lambda store: store.add_evaluations("a9", 1, CURVE),
    "samples of no attempt": lambda store: store.add_telemetry("a9", 1, SAMPLES),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_refused(path: Path, name: str) -> None:
    """What contradicts the record raises StoreConflict, changes nothing, and the store works on."""
    with ready(path) as store:
        store.start_daemon("d2", pid=1, pid_started=None, host="here", plan="", lock="cpu")
        run_one(store, 0)
        begin(store, 2)
    before = contents(path.parent)
    with Store.open(path) as store:
        with pytest.raises(StoreConflict):
            CONTRADICTIONS[name](store)
        assert [attempt.outcome for attempt in store.attempts()] == ["completed", None]
    assert contents(path.parent) == before


def test_interrupting_what_a_dead_daemon_left(path: Path) -> None:
    """Running rows become interrupted once; finished ones stay; the next try may begin."""
    with ready(path) as store:
        run_one(store, 0)
        begin(store, 1)
        begin(store, 2)
    with ready(path, daemon="d2") as store:
        left = store.interrupt_unfinished("the daemon was killed")
        assert [(row.spec.id, row.outcome, row.outcome_class, row.pid) for row in left] == [
            ("a1", "interrupted", "infrastructure", 4242),
            ("a2", "interrupted", "infrastructure", 4242),
        ]
        assert {row.pattern for row in left} == {"daemon died"} and left[0].pid_started == 99.25
        assert store.interrupt_unfinished("again") == [] and store.unfinished() == []
        begin(store, 1, try_number=2, daemon="d2")
        assert [(row.spec.id, row.try_number, row.outcome) for row in store.attempts(ids=["a1"])] == [
            ("a1", 1, "interrupted"),
            ("a1", 2, None),
        ]


def test_a_daemon_that_ended_stays_ended(path: Path) -> None:
    """A late heartbeat does not bring a daemon back."""
    with ready(path) as store:
        store.end_daemon("d1")
        ended = store.daemon()
        store.beat("d1", "late")
        store.end_daemon("d1")
        assert store.daemon() == ended and ended is not None and ended.ended
