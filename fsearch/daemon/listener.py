"""Who watches a daemon at work: the terminal of `fsearch run`, or a test."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fsearch.search.board import Difference
from fsearch.search.rows import Attempt, AttemptSpec


class Listener(Protocol):
    """Called from the daemon's loop as things happen. A call may not block for long."""

    def started(self, state: Path, device: str) -> None:
        """The daemon holds the machine and has opened the record."""

    def attempt_started(self, spec: AttemptSpec, try_number: int) -> None:
        """A process runs this attempt now."""

    def progress(
        self, spec: AttemptSpec, step: int, steps: int, loss: float | None, tokens_per_s: float | None
    ) -> None:
        """The attempt that trains has made progress."""

    def doing(self, spec: AttemptSpec, what: str) -> None:
        """The attempt, which has no steps (a build), says in a few words how far it is."""

    def attempt_ended(self, attempt: Attempt, difference: Difference | None) -> None:
        """A row is written; `difference` is its matched comparison, where it has one."""

    def event(self, level: str, text: str) -> None:
        """Something that a person would want to read in a log."""

    def waiting(self, why: str, left_s: float | None) -> None:
        """Nothing trains: what is waited for, and how long yet if that is known. Said again and again."""

    def finished(self, exit_code: int) -> None:
        """The daemon stops."""
