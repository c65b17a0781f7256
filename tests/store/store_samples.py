"""Rows to write, and other users to be: what the tests of the record share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fsearch.search.rows import AttemptSpec, DataFact, ModelFact
from fsearch.store import Evaluation, Result, Sample, Store

NOBODY = 65534

SPEC = AttemptSpec(
    id="a0",
    plan="p1",
    search="kv_recall q_after lr=0.005",
    search_key="s1",
    task="kv_recall",
    arguments={"keys": 12, "order": "q_after", "nested": {"größe": [1, 2.5, None, True]}},
    model={"init": {"n_layer": 3, "n_embd": 32, "head_size": 8}},
    recipe={"lr": 5e-3, "betas": [0.9, 0.99], "weight_decay": 0.1 + 0.2},
    batch=32,
    micro_batch=16,
    stage="quick",
    role="screen",
    steps=180,
    halves=("screen", "confirm"),
    evaluate={"every": None},
    variant="scalar_l1",
    form={"gate": "scalar", "alpha": -2.0, "layers": {"1": 1 / 3}, "clip": None},
    seed=7,
    master_seed=2**62,
)

RESULT = Result(
    pattern="",
    ended_monotonic_s=1234.5678901234567,
    score=0.1 + 0.2,
    loss=1e-320,  # denormal
    acc_pooled=np.nextafter(0.5, 1.0).item(),
    screen_score=1 / 3,
    screen_loss=None,
    look_score=2 / 3,
    metrics={"whole_answer": 1 / 7, "f1_comma": 5e-324},
    steps_done=180,
    tokens=2**40,
    backend="cpu-avx2",
    first_losses=(2.0794415416798357, 5e-324, 1.7976931348623157e308),
    early_weights_sha256="e" * 64,
    weights_sha256="f" * 64,
    seconds={"load": 0.1, "train": 1 / 7},
    peak_memory_mib=123.456,
    energy_mj=None,
    retry_after_s=0.1 + 0.7,
)

FACT = DataFact(
    key="d1",
    path="cache/d1",
    sha256="a" * 64,
    code_sha256="b" * 64,
    vocab_size=64,
    n_train=1000,
    n_val_screen=101,
    n_val_confirm=99,
    max_tokens=57,
    chance=0.125,
    majority=1 / 7,
    origins=({"name": "owner/größe", "revision": "main", "commit": "4" * 40, "sha256": "0" * 64},),
)

MODEL = ModelFact(
    key="hf://owner/repo/größe.pth",
    path="/cache/größe.pth",
    sha256="c" * 64,
    size_bytes=2**40,
    modified_ns=1_700_000_000_123_456_789,
    n_layer=12,
    n_embd=768,
    head_size=64,
    vocab_size=65536,
)

CURVE = [
    Evaluation(step=90, half="screen", score=0.25, acc_pooled=0.3, loss=1.5, examples=2),
    Evaluation(step=180, half="screen", score=None, acc_pooled=None, loss=None, examples=2),
]
SAMPLES = [Sample(offset_s=0.0, utilisation=0.97, power_w=312.5), Sample(offset_s=1.0, memory_mib=2048.0)]


def spec(number: int, **changes: Any) -> AttemptSpec:
    """The sample attempt under another id."""
    return replace(SPEC, id=f"a{number}", **changes)


def ready(path: Path, daemon: str = "d1") -> Store:
    """A record with a plan and a daemon, open for writing."""
    store = Store.open(path)
    store.add_plan("p1", name="demo", path="plans/demo.yaml", text="name: demo  # ü\n")
    store.start_daemon(daemon, pid=os.getpid(), pid_started=1.5, host="here", plan="demo", lock="cpu")
    return store


def begin(store: Store, number: int, try_number: int = 1, daemon: str = "d1", **changes: Any) -> None:
    """Begin a try of a sample attempt."""
    store.begin(
        spec(number, **changes), try_number, "f1", {"torch": "2.13", "threads": 2}, daemon, 4242, 99.25
    )


def run_one(store: Store, number: int, daemon: str = "d1") -> None:
    """A whole attempt, from its begin to its end, details first."""
    begin(store, number, daemon=daemon)
    store.add_evaluations(f"a{number}", 1, CURVE)
    store.finish(f"a{number}", 1, "completed", "result", "", **RESULT)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but SQLite's scratch file of locks, whose bytes mean nothing."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith("-shm")
    }


def in_child(action: Callable[[], Any], *, user: int | None = None) -> Any:
    """What `action` returns (as JSON) in a forked process, as another user if told. Raises ChildError."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            answer = {"value": action()}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(write_end, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"error": "the child died"}
    if "error" in answer:
        raise ChildError(answer["error"])
    return answer["value"]


class ChildError(Exception):
    """What a child process failed with."""


def killed_while_writing(path: Path, attempts: int) -> None:
    """Leave a record whose writer was killed with rows in its write-ahead log."""
    child = os.fork()
    if child == 0:
        store = ready(path)
        for number in range(attempts):
            run_one(store, number)
        begin(store, attempts)
        os.kill(os.getpid(), 9)
        time.sleep(60)
    os.waitpid(child, 0)
