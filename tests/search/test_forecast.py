"""How long a search will take: only from runs like its own, with sums that are done by hand here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fsearch.plan import Search
from fsearch.search.forecast import known_speed, seconds
from fsearch.search.rows import Attempt
from fsearch.search.specs import stage_spec
from tests.search.builders import row, search_of

MACHINE = {"device": "a CPU", "threads": 1}


def ran(search: Search, seed: int = 0, **fields: Any) -> Attempt:
    """A quick baseline of 20 steps: 2 s of training, an evaluation every 2 steps and at the end."""
    spec = stage_spec(search, search.stages[0], None, seed, 4)
    known = {
        "steps_done": spec.steps,
        "seconds": {"load": 1.0, "train": 2.0, "evaluate": 5.5},
        "backend": "kernel",
        "fingerprints": MACHINE,
        "sequence": seed + 1,
    }
    return row(spec, **{**known, **fields})


def test_the_sum() -> None:
    """Steps at the median step, evaluations at the median evaluation, the median load."""
    search = search_of()
    fast = {"seconds": {"load": 1.0, "train": 1.0, "evaluate": 5.5}}
    slow = {"seconds": {"load": 9.0, "train": 90.0, "evaluate": 55.0}}
    speed = known_speed(search, [ran(search), ran(search, 1, **fast), ran(search, 2, **slow)])
    assert speed is not None and speed.runs == 3
    # 20 steps, every 2: 10 evaluations and the last; 60 steps, every 7: 8 and the last.
    assert (speed.step_s, speed.evaluation_s, speed.load_s) == pytest.approx((2 / 20, 5.5 / 11, 1.0))
    assert seconds(search, speed, [2, 6]) == pytest.approx(2 * (1 + 2 + 5.5) + 6 * (1 + 6 + 9 * 0.5))


def test_an_own_interval_of_evaluations() -> None:
    """`evaluate.every` says how many there are."""
    search = search_of(evaluate={"every": 5})
    speed = known_speed(search, [ran(search)])
    assert speed is not None and speed.evaluation_s == pytest.approx(5.5 / 5)
    assert speed.attempt_s(search, 60) == pytest.approx(1 + 6 + 13 * 1.1)


@pytest.mark.parametrize(
    "other",
    [
        {"tasks": [{"task": "other", "batch": 4}]},
        {"tasks": [{"task": "toy", "batch": 8}]},
        {"tasks": [{"task": "toy", "batch": 4, "n_train": 16}]},
        {"model": {"init": {"n_layer": 4, "n_embd": 32, "head_size": 8}}},
        {"train": {"lr": 0.01, "precision": "bf16"}},
    ],
)
def test_other_runs_tell_nothing(other: dict[str, Any]) -> None:
    """Of another task, batch, size of data, model or precision."""
    assert known_speed(search_of(), [ran(search_of(**other))]) is None


@pytest.mark.parametrize("other", [{"train": {"lr": 0.5}}, {"variants": ["head_l1"]}, {"seed": 7}])
def test_what_changes_no_speed(other: dict[str, Any]) -> None:
    """A learning rate, the variants, a master seed."""
    assert known_speed(search_of(), [ran(search_of(**other))]) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "interrupted"},
        {"outcome": "noop", "steps_done": 20},
        {"try_number": 2},
        {"steps_done": 12},
        {"seconds": {}},
    ],
)
def test_what_is_not_a_whole_run_is_left_out(fields: dict[str, Any]) -> None:
    """It would look faster than it was."""
    search = search_of()
    assert known_speed(search, [ran(search, **fields)]) is None


def test_a_batch_that_has_to_be_found() -> None:
    """Its size is not in the plan: runs of the search itself tell, whatever batch they had."""
    search = search_of(tasks=[{"task": "toy", "batch": "largest"}])
    assert known_speed(search, [ran(search)]) is not None
    found = ran(search)
    elsewhere = replace(found, spec=replace(found.spec, search_key="another"))
    assert known_speed(search, [elsewhere]) is None


def test_layers_recomputed_or_not() -> None:
    """A plan that names one is told by runs of that, one that leaves it open by runs like the newest."""
    off, layers, auto = (
        search_of(train={"lr": 0.01, "recompute": choice}) for choice in ("off", "layers", "auto")
    )
    old = [ran(off, seed) for seed in range(3)]
    new = [ran(layers, seed + 3, seconds={"train": 4.0}) for seed in range(2)]
    assert known_speed(off, new) is None and known_speed(layers, old) is None
    found = [known_speed(search, [*old, *new]) for search in (off, layers, auto)]
    assert [(speed.runs, speed.step_s) for speed in found if speed] == [(3, 0.1), (2, 0.2), (2, 0.2)]


def test_of_two_machines_the_last_counts() -> None:
    """Runs on another device, with other threads or another kernel are not mixed with them."""
    search = search_of()
    old = [ran(search, seed, seconds={"train": 200.0}) for seed in range(5)]
    gpu = ran(search, 7, fingerprints={"device": "a GPU", "threads": 1}, seconds={"train": 0.2})
    speed = known_speed(search, [gpu, *old])
    assert speed is not None
    assert (speed.runs, speed.machine.device, speed.step_s) == (1, "a GPU", pytest.approx(0.01))
