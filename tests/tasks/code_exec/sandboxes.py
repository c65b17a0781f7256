"""Programs for the tests, the word where there is no sandbox to run them in, what is left of them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from threading import Event, Thread

import pytest

from fsearch.tasks.code_exec import Program, Ran, Verdict, self_test
from fsearch.tasks.code_exec.run import WALL_LIMIT_S, run
from tests.alive import wait_until_gone

TOKEN = "hf_ThisMustNotBeSeenByAnyProgram"


@cache
def _unavailable() -> str:
    return self_test("bwrap")


def need_sandbox() -> None:
    """Skip where no sandbox is to be had, with the self-test's own words. One with a hole is no reason to."""
    why = _unavailable()
    assert "does not hold" not in why, why
    if why:
        pytest.skip(f"no sandbox here: {why}")


def program(code: str, *tests: str, setup: str = "") -> Program:
    """With a test that holds of everything, if none is given."""
    return Program(code, setup, tests or ("pass",))


def descendants() -> set[int]:
    """The processes that this one, or one of its own, has started."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(pid)] = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, new = set[int](), {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def outcome(attack: Program, wall_limit_s: float = WALL_LIMIT_S) -> Ran:
    """Run it, and see that none of its processes is left."""
    before, seen, over = descendants(), set[int](), Event()

    def look() -> None:  # while their parents live: later they are nobody's
        while not over.wait(0.03):
            seen.update(descendants())

    looker = Thread(target=look)
    looker.start()
    try:
        ran = run(attack, "bwrap", wall_limit_s)
    finally:
        over.set()
        looker.join()
    # A fork bomb of root's has some hundred processes to end.
    assert wait_until_gone(sorted((seen | descendants()) - before), limit_s=60) == []
    return ran


def expect(ran: Ran, verdict: Verdict, said: str = "") -> None:
    assert ran.verdict == verdict, ran
    assert said in ran.reason, ran
    assert TOKEN not in ran.reason
