"""A record as large as long use makes it, for `fsearch bench daemon`: one plan as the protocol would take it,
and many others around it. Only the training is made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sqlalchemy import insert

from fsearch.plan import Plan, expand, parse
from fsearch.search.board import Note, Record, Run
from fsearch.search.ids import digest
from fsearch.search.next_step import next_step
from fsearch.search.rows import Attempt, AttemptSpec, DataFact, Facts
from fsearch.search.specs import search_data_key
from fsearch.store import Store, tables
from fsearch.store.engine import close, connect
from fsearch.store.mapping import attempt_row
from fsearch.tasks import schemas

ROWS_OF_ANOTHER_PLAN = 100
_ROWS_AT_ONCE = 2000

PLAN = """\
name: a plan of two thousand attempts
seed: 0
model: {{init: {{n_layer: 12, n_embd: 768, head_size: 64}}}}
train: {{lr: [1.0e-5, 2.0e-5, 3.0e-5, 6.0e-5, 1.0e-4]}}
stages:
  - {{name: quick, steps: 180}}
  - {{name: medium, steps: 560, seeds: {{first: 3, then: 5}}}}
screen: {{prune_below: 0.001, promote_at_most: 12, noise_floor_seeds: 3}}
claim: {{at_least: 0.01}}
variants:
{variants}
tasks:
  - {{task: kv_recall, order: q_after, batch: [1, 2, 4, 8]}}
"""


def the_plan() -> Plan:
    """Twenty searches of thirty variants, with a top-up: about 2,000 attempts."""
    names = (f"  - {{name: v{n}, alpha: {n / 10:.1f}, layer_start: {1 + n % 4}}}" for n in range(30))
    return parse(PLAN.format(variants="\n".join(names)), schemas(), "plan.yaml")


def the_facts(plan: Plan) -> Facts:
    """Everything is ready: kernel and data."""
    keys = {search_data_key(search) for search in expand(plan)}
    return Facts(data={key: _data(key) for key in keys}, environment="e" * 16, backend="cpu", daemon="bench")


def attempts_of(plan: Plan, facts: Facts) -> list[Attempt]:
    """Every attempt of the plan, in the order in which the protocol asks for them."""
    record = Record()
    rows: list[Attempt] = []
    while isinstance(step := next_step(plan, facts, record, 0.0), Run | Note):
        rows.append(_trained(step.spec, facts, sequence=2 * len(rows) + 1))
        record.add(rows[-1])
    return rows


def write(path: Path, plan: Plan, facts: Facts, rows: list[Attempt], attempts: int) -> None:
    """A record of so many attempts, `rows` of the plan the last among them.

    The rows are written at once, as the store writes each: one by one they would take an hour of fsync.
    """
    others = (attempts - len(rows)) // ROWS_OF_ANOTHER_PLAN
    with Store.open(path) as store:
        store.add_plan(plan.id, name=plan.name, path="plan.yaml", text=plan.text)
        for number in range(others):
            store.add_plan(f"other {number}", name=f"other {number}", path="other.yaml", text=plan.text)
        store.start_daemon("bench", pid=1, pid_started=None, host="bench", plan=plan.name, lock="none")
        for fact in facts.data.values():
            store.put_fact(fact)
    connection = connect(path, "mode=rw", begin="BEGIN IMMEDIATE", pragmas=["journal_mode=WAL"], wait_s=0.0)
    try:
        with connection.begin():
            every = _numbered((*_of_others(rows, others), *rows))
            while some := list(islice(every, _ROWS_AT_ONCE)):
                ended = ({"ended_sequence": row.sequence + 1} for row in some)
                both = [attempt_row(row) | end for row, end in zip(some, ended, strict=True)]
                connection.execute(insert(tables.attempt), both)
    finally:
        close(connection)


def _of_others(rows: list[Attempt], plans: int) -> Iterator[Attempt]:
    """Rows of other plans: the same under other ids."""
    for number in range(plans):
        for place in range(ROWS_OF_ANOTHER_PLAN):
            row = rows[(number * ROWS_OF_ANOTHER_PLAN + place) % len(rows)]
            other = replace(row.spec, id=digest([number, place]), plan=f"other {number}")
            yield replace(row, spec=replace(other, search_key=f"search {number}"))


def _numbered(rows: Iterable[Attempt]) -> Iterator[Attempt]:
    first = 10  # after the daemon's
    return (replace(row, sequence=first + 2 * number) for number, row in enumerate(rows))


def _trained(spec: AttemptSpec, facts: Facts, sequence: int) -> Attempt:
    hashed = hashlib.sha256(spec.id.encode())
    chance = int.from_bytes(hashed.digest()[:4], "big") / 2**32  # the same in every run
    score = 0.3 + 0.01 * (spec.variant != "no_fs") + 0.03 * (chance - 0.5)
    return Attempt(
        spec=spec,
        try_number=1,
        sequence=sequence,
        outcome="completed",
        outcome_class="result",
        fingerprint=facts.fingerprint(next(iter(facts.data.values()))),
        fingerprints={"environment": facts.environment, "backend": facts.backend, "data": "d" * 64},
        daemon="bench",
        score=score,
        loss=1.0 - score,
        acc_pooled=score,
        screen_score=score,
        screen_loss=1.0 - score,
        metrics={"whole_answer": chance},
        steps_done=spec.steps,
        tokens=10**6,
        backend=facts.backend,
        first_losses=tuple(3.0 - chance / (1 + step) for step in range(20)),
        early_weights_sha256=hashed.hexdigest(),
        weights_sha256=hashed.hexdigest(),
        seconds={"load": 0.1, "train": 90.0 + chance, "evaluate": 2.0},
        peak_memory_mib=300.0,
        started_at="2026-01-01T00:00:00.000+00:00",
        ended_at="2026-01-01T00:01:32.000+00:00",
    )


def _data(key: str) -> DataFact:
    return DataFact(
        key=key,
        path=f"cache/data/{key}",
        sha256="d" * 64,
        code_sha256="c" * 64,
        vocab_size=64,
        n_train=1024,
        n_val_screen=128,
        n_val_confirm=128,
        max_tokens=64,
    )
