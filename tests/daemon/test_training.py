"""What a screen is told of the attempt that trains."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import count

from fsearch.daemon.training import CURVE_POINTS, Training
from fsearch.search.rows import Attempt
from fsearch.store import Sample
from tests.store.store_samples import spec

ATTEMPT = Attempt(spec=spec(0), try_number=2, sequence=1, outcome=None, outcome_class=None)


def test_nothing_is_said_before_the_first_step() -> None:
    """A build or a download has no steps."""
    training = Training()
    training.take({"doing": "compiled 3 of 10"})
    assert training.told(ATTEMPT, None) == {}


def test_a_long_training_is_as_small_as_a_short_one() -> None:
    """Ten thousand losses are forty, in their order and evenly placed; the pace gives the time left."""
    clock = count(100.0, 0.5)
    training = Training(clock=lambda: next(clock))
    for step in range(1, 7_501):
        training.take({"step": step, "steps": 10_000, "loss": 1.0 / step, "tokens_per_s": 9.0})
    told = training.told(ATTEMPT, Sample(offset_s=3.0, power_w=300.0))
    assert (told["attempt"], told["try"], told["step"], told["steps"]) == (ATTEMPT.spec.id, 2, 7_500, 10_000)
    known = [loss for loss in told["losses"] if loss is not None]
    assert len(told["losses"]) == CURVE_POINTS and len(known) == 31
    assert known[:-1] == [1.0 / (250 * place - 1) for place in range(1, 31)] and known[-1] == told["loss"]
    assert told["left_s"] == 2_500 * 0.5
    assert told["reading"]["power_w"] == 300.0
    assert len(json.dumps(told)) < 2_000


def test_what_json_has_no_words_for_is_left_out() -> None:
    """Neither a loss nor a score that is no number keeps the daemon from its sign of life."""
    training = Training()
    training.take({"step": 1, "steps": 4, "loss": math.nan})
    training.evaluated({"step": 1, "half": "screen", "score": math.inf})
    told = training.told(replace(ATTEMPT, try_number=1), None)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["loss"], told["tokens_per_s"], told["left_s"]) == (None, None, None)
    assert told["evaluation"] == {"step": 1, "half": "screen", "score": None}
