"""Outcome words, their classes, and what follows: closed, tried again, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fsearch.plan import Limits
from fsearch.search.outcomes import CLASSES, FREE_PATTERNS, Closed, Open, standing
from fsearch.search.rows import Attempt
from fsearch.search.specs import stage_spec

from .builders import row, search_of

SEARCH = search_of()
SPEC = stage_spec(SEARCH, SEARCH.stages[0], None, 0, 4)

RESULT = ["completed", "stopped_early", "noop"]
CONFIGURATION = ["oom", "data_short", "data_refused", "model_refused", "diverged", "kernel_build_failed"]
UNKNOWN = ["crashed", "hang"]
INFRASTRUCTURE = ["host_oom", "model_changed", "disk_refused", "gpu_lost", "gpu_contended"]
INFRASTRUCTURE += ["interrupted"]


def tries(*words: str | None, **fields: Any) -> list[Attempt]:
    """The tries of one attempt, ten seconds apart."""
    return [
        row(SPEC, word, try_number=n, sequence=n, ended_monotonic_s=10.0 * n, reason=f"try {n}", **fields)
        for n, word in enumerate(words, start=1)
    ]


def test_every_word_has_its_class() -> None:
    """The table is complete and says nothing else."""
    assert dict(CLASSES) == {
        **dict.fromkeys(RESULT, "result"),
        **dict.fromkeys(CONFIGURATION, "configuration"),
        **dict.fromkeys(UNKNOWN, "unknown"),
        **dict.fromkeys([*INFRASTRUCTURE, "network_wait", "disk_full"], "infrastructure"),
    }


def test_what_was_never_tried_is_open() -> None:
    """At once, as its first try."""
    assert standing([], Limits(retries=5), "d1") == Open(1)


@pytest.mark.parametrize("word", RESULT + CONFIGURATION)
def test_results_and_configuration_failures_close(word: str) -> None:
    """They are never tried again, whatever came before; only `completed` is completed."""
    for before in ([], ["crashed"], ["disk_full", "interrupted"]):
        rows = tries(*before, word)
        state = standing(rows, Limits(retries=5), "d2")
        assert state == Closed(rows[-1])
        assert isinstance(state, Closed) and state.completed == (word == "completed")


@pytest.mark.parametrize("word", UNKNOWN)
def test_an_unknown_failure_has_one_more_try(word: str) -> None:
    """The second time it closes, and says that the limit closed it."""
    once, twice = tries(word), tries(word, "hang")
    assert standing(once, Limits(retries=0), "d1") == Open(2, 0.0, "try 1")
    assert standing(twice, Limits(retries=5), "d1") == Closed(twice[-1], used_up=True)


@pytest.mark.parametrize("word", INFRASTRUCTURE)
@pytest.mark.parametrize("retries", [0, 1, 5])
def test_an_infrastructure_failure_is_tried_again_up_to_the_limit(word: str, retries: int) -> None:
    """`retries` tries more than the first; not held against the attempt before that."""
    for n in range(1, retries + 1):
        state = standing(tries(*[word] * n), Limits(retries=retries), "d1")
        assert isinstance(state, Open) and state.try_number == n + 1
    rows = tries(*[word] * (retries + 1))
    assert standing(rows, Limits(retries=retries), "d1") == Closed(rows[-1], used_up=True)


def test_the_two_limits_are_counted_apart() -> None:
    """A crash is no use of the retries, and a machine out of memory no use of the second chance."""
    assert isinstance(standing(tries("host_oom", "crashed", "host_oom"), Limits(retries=2), "d1"), Open)
    assert isinstance(standing(tries("host_oom", "crashed", "host_oom"), Limits(retries=1), "d1"), Closed)
    assert isinstance(standing(tries("crashed", "host_oom", "hang"), Limits(retries=5), "d1"), Closed)


@pytest.mark.parametrize("pattern", sorted(FREE_PATTERNS))
def test_what_is_nobodys_fault_counts_against_no_limit(pattern: str) -> None:
    """A daemon, zygote or node that dies, and a stop that was asked for: however often, at once again."""
    assert sorted(FREE_PATTERNS) == ["daemon died", "node lost", "stopped", "zygote died"]
    rows = tries(*["interrupted"] * 50, pattern=pattern)
    assert standing(rows, Limits(retries=0), "d1") == Open(51, 0.0, "try 50")
    mixed = [*tries("host_oom"), *(replace(r, try_number=r.try_number + 1) for r in rows)]
    assert standing(mixed, Limits(retries=0), "d1") == Closed(mixed[-1], used_up=True)


def test_a_running_try_counts_against_no_limit() -> None:
    """A row without an outcome closes nothing."""
    assert standing(tries(None), Limits(retries=0), "d1") == Open(2, 0.0, "try 1")


@pytest.mark.parametrize(
    ("failures", "back_off_s"),
    [
        (1, 5.0),
        (2, 10.0),
        (3, 20.0),
        (4, 40.0),
        (6, 160.0),
        (7, 300.0),
        (8, 300.0),
        (500, 300.0),
        (1000, 300.0),
    ],
)
def test_the_back_off_doubles_up_to_five_minutes(failures: int, back_off_s: float) -> None:
    """Counted from the end of the last try, on the clock of the daemon that saw it."""
    state = standing(tries(*["host_oom"] * failures), Limits(retries=1000), "d1")
    assert isinstance(state, Open)
    assert state.not_before_s == 10.0 * failures + back_off_s
    assert state.why == f"try {failures}"


def test_the_back_off_starts_afresh_in_a_new_daemon() -> None:
    """Clocks of two daemons cannot be compared: a new one tries at once, then waits by the same count."""
    rows = tries("host_oom", "host_oom")
    assert standing(rows, Limits(retries=5), "d2") == Open(3, 0.0, "try 2")
    rows.append(row(SPEC, "host_oom", try_number=3, sequence=3, ended_monotonic_s=1.0, daemon="d2"))
    state = standing(rows, Limits(retries=5), "d2")
    assert isinstance(state, Open) and state.not_before_s == 1.0 + 20.0


def test_a_crash_is_tried_again_at_once() -> None:
    """Only infrastructure needs time to come back."""
    assert standing(tries("host_oom", "crashed"), Limits(retries=5), "d1") == Open(3, 0.0, "try 2")


def test_tries_come_in_any_order() -> None:
    """The try number orders them, not the order of the rows."""
    rows = tries("host_oom", "crashed", "completed")
    assert standing(rows[::-1], Limits(retries=5), "d1") == Closed(rows[-1])


def test_room_on_a_disk_is_waited_for_without_end() -> None:
    """A full disk counts against no limit; its back-off doubles over the full disks in a row alone."""
    rows = tries(*["disk_full"] * 50)
    assert standing(rows, Limits(retries=0), "d1") == Open(51, 500.0 + 300.0, "try 50")
    assert standing(rows, Limits(retries=0), "d2") == Open(51, 0.0, "try 50")
    mixed = tries("host_oom", "host_oom", "disk_full", "disk_full")
    assert standing(mixed, Limits(retries=2), "d1") == Open(5, 40.0 + 10.0, "try 4")
    assert isinstance(standing(mixed, Limits(retries=1), "d1"), Closed)
