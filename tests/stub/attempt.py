"""A training of a millisecond: scores and hashes that follow from the job, a checkpoint, a curve.

FSEARCH_STUB may ask for something else:

- `stuck`: it makes one step, does not end when the zygote does, and heeds no SIGTERM
- a number: it lasts so many seconds
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import os
import random
import signal
import time
from array import array
from pathlib import Path
from typing import Any

from fsearch.system.files import write_atomic
from fsearch.train.job import Channel, Job
from tests.stub import HALF

LASTS_S = 0.001
FOR_EVER_S = 3600.0
TOKENS = 4  # that are scored in an example

_PR_SET_PDEATHSIG = 1


def run(job: Job, channel: Channel) -> None:
    """Pretend to train and score one attempt."""
    wanted = os.environ.get("FSEARCH_STUB", str(LASTS_S))
    if wanted == "stuck":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if job.get("ahead"):
        job = channel.told_to_begin()
    channel.enter("load")
    if job["checkpoint"] is not None:
        write_atomic(Path(job["checkpoint"]["path"]), b"no weights")
    channel.enter("train")
    channel.send("progress", step=1, steps=job["steps"], loss=1.0)
    time.sleep(FOR_EVER_S if wanted == "stuck" else float(wanted))
    channel.enter("evaluate")
    halves = [] if job["role"] == "probe" else job["halves"]
    scores = {half: _scores(job, half) for half in halves}
    for half in halves:
        channel.send(
            "evaluation", step=job["steps"], half=half, examples=_examples(half), **_headline(scores[half])
        )
    channel.enter("finish")
    channel.send("result", outcome="completed", reason=f"{job['steps']} steps", **_figures(job, scores))


def _scores(job: Job, half: str) -> dict[str, list[Any]]:
    """Right tokens and loss of each example; more are right the farther the gate is open."""
    drawn = random.Random(f"{job['attempt']} {half}")
    share = 0.5 + 0.04 * max(0.0, float(job["form"].get("alpha", -8.0)) + 4.0)
    correct = [sum(drawn.random() < share for _ in range(TOKENS)) for _ in range(_examples(half))]
    return {"correct": correct, "loss": [drawn.uniform(0.5, 2.0) for _ in correct]}


def _examples(half: str) -> int:
    return 2 * HALF if half == "all" else HALF


def _headline(scores: dict[str, list[Any]]) -> dict[str, float]:
    tokens = TOKENS * len(scores["correct"])
    right = sum(scores["correct"]) / tokens
    return {"score": right, "acc_pooled": right, "loss": sum(scores["loss"]) / tokens}


def _figures(job: Job, scores: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    """What a result says, but for its outcome."""
    headline = _headline(scores[job["halves"][-1]]) if scores else {}
    screen = _headline(scores["screen"]) if len(scores) == 2 else {}
    drawn = random.Random(job["attempt"])
    return {
        **headline,
        "screen_score": screen.get("score"),
        "screen_loss": screen.get("loss"),
        "metrics": {},
        "steps": job["steps"],
        "tokens": 8 * job["batch"] * job["steps"],
        "first_losses": [drawn.uniform(1.0, 2.0) for _ in range(min(20, job["steps"]))],
        "early_weights_sha256": _sha256(job, "early"),
        "weights_sha256": _sha256(job, "last"),
        "seconds": {"load": 0.0, "train": LASTS_S, "evaluate": 0.0},
        "peak_memory_mib": 1.0,
        "backend": job["backend"],
        "examples": {half: _packed(one) for half, one in scores.items()},
    }


def _packed(scores: dict[str, list[Any]]) -> dict[str, str]:
    columns = {
        "correct": array("i", scores["correct"]),
        "total": array("i", [TOKENS] * len(scores["correct"])),
        "loss": array("d", scores["loss"]),
    }
    return {name: base64.b64encode(column.tobytes()).decode() for name, column in columns.items()}


def _sha256(job: Job, when: str) -> str:
    return hashlib.sha256(f"{job['attempt']} {when}".encode()).hexdigest()
