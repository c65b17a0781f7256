"""The rows that a plan is decided from are found in a record of many plans: all of them, and few others."""

from __future__ import annotations

from pathlib import Path

from fsearch.plan import Plan, expand, parse
from fsearch.search.board import Record
from fsearch.search.next_step import standing_of
from fsearch.search.specs import stage_spec
from fsearch.store import Store, open_reader
from fsearch.store.selection import record_of
from fsearch.tasks import schemas
from fsearch.ui.bench_record import attempts_of, the_facts

from .store_samples import RESULT

TEXT = """\
name: {name}
seed: 0
model: {{init: {{n_layer: 2, n_embd: 16, head_size: 8}}}}
train: {{lr: 1.0e-3}}
stages:
  - {{name: quick, steps: 30}}
  - {{name: medium, steps: {medium}, seeds: 3}}
screen: {{prune_below: 0.001, promote_at_most: 1}}
variants: [scalar_l1, scalar_l1_a3]
tasks:
  - {{task: kv_recall, order: q_after, batch: {batch}}}
"""


def plan(name: str, medium: int = 60, batch: int = 4) -> Plan:
    return parse(TEXT.format(name=name, medium=medium, batch=batch), schemas(), "plan.yaml")


def write(store: Store, of: Plan) -> None:
    """The whole plan, as far as it is not recorded yet."""
    facts = the_facts(of)
    store.add_plan(of.id, name=of.name, path="plan.yaml", text=of.text)
    store.start_daemon("d1", pid=1, pid_started=None, host="here", plan="", lock="")
    for fact in facts.data.values():
        store.put_fact(fact)
    for row in attempts_of(of, facts):
        if store.attempt(row.spec.id, 1) is None:
            fingerprints = {"environment": facts.environment, "backend": facts.backend}
            store.begin(row.spec, 1, row.fingerprint, fingerprints, "d1", 1, None)
            result = RESULT | {"score": row.score, "loss": row.loss}
            store.finish(row.spec.id, 1, "completed", "result", **result)  # type: ignore[typeddict-item]


def test_a_plan_is_decided_from_its_own_rows_and_those_it_shares(path: Path) -> None:
    """Three plans, of which one shares its screening with another search: each stands as by all rows, and
    what belongs to no search of the plan is not read at once."""
    plans = [plan("first"), plan("longer", medium=80), plan("other", batch=8)]
    with Store.open(path) as store:
        for one in plans:
            write(store, one)
    with open_reader(path) as reader:
        everything = reader.attempts()
        shared = {search.search_key for search in (row.spec for row in everything)}
        assert len(shared) == 3
        for one in plans:
            facts = the_facts(one)
            record = record_of([one], reader, {})
            assert {tries[0].spec.plan for tries in record.at_hand.values()} == {one.id}
            whole = standing_of(one, facts, Record(everything))
            assert whole.finished and standing_of(one, facts, record) == whole
        (search,) = expand(plans[1])
        quick = stage_spec(search, search.stages[0], None, 0, 4)
        assert record_of([plans[1]], reader, {}).all_tries(quick.id)[0].spec.plan == plans[0].id


def test_every_try_of_an_attempt_comes_with_one_of_them(path: Path) -> None:
    """Where two plans made a try each, both plans see both."""
    first, second = plan("first"), plan("longer", medium=80)
    with Store.open(path) as store:
        write(store, first)
        store.add_plan(second.id, name="longer", path="plan.yaml", text=second.text)
        (search,) = expand(second)
        quick = stage_spec(search, search.stages[0], None, 0, 4)
        store.begin(quick, 2, "f2", {"environment": "later"}, "d1", 1, None)
        for one in (first, second):
            tries = record_of([one], store, {}).at_hand[quick.id]
            assert [(row.try_number, row.spec.plan) for row in tries] == [(1, first.id), (2, second.id)]
        assert store.last_fingerprints() == {"environment": "later"}


def test_a_record_without_attempts_ran_under_nothing(path: Path) -> None:
    """Nobody knows what ran before anything did."""
    with Store.open(path) as store:
        assert store.last_fingerprints() == {} and record_of([plan("first")], store, {}).at_hand == {}
