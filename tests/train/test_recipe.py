"""The learning-rate schedule as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fsearch.train.recipe import Recipe, lr_factor
from tests.train.conftest import MakeJob

STEPS = 200


def factors(make_job: MakeJob, **fields: Any) -> list[float]:
    """The factor of every step of a run."""
    recipe = Recipe.from_job(make_job(recipe=fields)["recipe"])
    return [lr_factor(recipe, step, STEPS) for step in range(STEPS)]


def test_warm_up_flat_and_linear_end(make_job: MakeJob) -> None:
    """Up in equal steps to 1 at 6 %, 1 until 30 %, then down in equal steps to 5 % at the last step."""
    got = factors(make_job, warmup=0.06, decay="linear", decay_from=0.3, final_lr=0.05)
    assert got[:12] == pytest.approx([(step + 1) / 12 for step in range(12)])
    assert set(got[11:60]) == {1.0}
    assert got[59:] == pytest.approx([1 - 0.95 * step / 140 for step in range(141)])
    assert got[-1] == pytest.approx(0.05, abs=1e-15)


def test_cosine(make_job: MakeJob) -> None:
    """Half a cosine from 1 to the final value: half-way it stands in the middle, at both ends it is flat."""
    got = factors(make_job, warmup=0.0, decay="cosine", decay_from=0.5, final_lr=0.2)
    assert set(got[:100]) == {1.0}
    assert got[149] == pytest.approx(0.6)
    assert got[-1] == pytest.approx(0.2)
    assert got[119] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 0.2)) / 2)


def test_no_decay_and_no_warm_up(make_job: MakeJob) -> None:
    """Without either the learning rate is the recipe's in every step."""
    assert set(factors(make_job, warmup=0.0, decay="none")) == {1.0}


@pytest.mark.parametrize("field", [{"precision": "fp16"}, {"decay": "steps"}])
def test_what_there_is_not_is_refused(make_job: MakeJob, field: dict[str, Any]) -> None:
    """An unknown precision or decay is an error that names it, never silently another."""
    with pytest.raises(ValueError, match=next(iter(field.values()))):
        factors(make_job, **field)
