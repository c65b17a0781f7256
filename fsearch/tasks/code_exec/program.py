"""A program with its tests, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Level = Literal["bwrap", "unsafe"]
"""In a sandbox of namespaces, or only under resource limits in a folder of its own."""


class Verdict(StrEnum):
    """What became of a program: how its first step that failed did so, in the order code, setup, tests."""

    PASSED = "passed"
    """Code, setup and every test ran to the end."""

    FAILED_ASSERTION = "failed_assertion"
    """A test raised AssertionError."""

    ERROR = "error"
    """Anything else was raised, sys.exit() included, or the process ended before its tests were over."""

    TIMEOUT = "timeout"
    """Its processor time or its time on the clock was over."""

    SYNTAX_ERROR = "syntax_error"
    """The code cannot be compiled."""

    BLOCKED = "blocked"
    """It failed of an access that the sandbox refused: a file, a folder or the network. Only at `bwrap`."""


@dataclass(frozen=True, slots=True)
class Program:
    """Python source, all of it run in one process and one namespace: code, setup, then test after test.

    Raises ValueError without a test: there would be nothing to pass.
    """

    code: str
    setup: str
    """Runs after the code, for it may use what the code defines; may be empty."""

    tests: tuple[str, ...]
    """Statements that raise where the code is wrong. The later ones run after a failure too."""

    def __post_init__(self) -> None:
        if not self.tests:
            raise ValueError("a program without tests can neither pass nor fail: give it at least one test")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ran."""

    verdict: Verdict
    tests_passed: int
    tests: int
    reason: str
    """What went wrong, in one line; empty where it passed."""

    seconds: float
    """On the clock, the start of the interpreter left out; the one thing here that differs between runs."""

    exec_ok: bool
    """Whether the code itself ran to its end, whatever setup and tests did then."""
