"""The rows that people and screens read beside attempts and facts: pure data, no SQL.

`Attempt` and `DataFact` belong to `fsearch.search.rows`. Times are UTC text for people; order is
always the sequence number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from fsearch.search.rows import Half

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Level = Literal["info", "warning", "error"]


class Result(TypedDict, total=False):
    """What a finished attempt leaves; the fields of `Attempt` of the same names."""

    pattern: str
    ended_monotonic_s: float
    score: float | None
    loss: float | None
    acc_pooled: float | None
    screen_score: float | None
    screen_loss: float | None
    look_score: float | None
    metrics: dict[str, float]
    screen_metrics: dict[str, float]
    unavailable: dict[str, str]
    steps_done: int
    tokens: int
    backend: str
    first_losses: tuple[float, ...]
    early_weights_sha256: str
    weights_sha256: str
    seconds: dict[str, float]
    peak_memory_mib: float | None
    energy_mj: float | None
    idle_s: float | None
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan as it was asked for the first time."""

    id: str  # hash
    position: int  # 1, 2, ...: order in which plans were first asked
    name: str
    path: str
    text: str  # as written, comments included
    first_asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One point of an attempt's curve."""

    step: int
    half: Half
    score: float | None  # 0..1; None where it was not finite
    acc_pooled: float | None
    loss: float | None
    examples: int
    metrics: dict[str, float] = field(default_factory=dict)  # of completions, where they were asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleScores:
    """The last evaluation example by example, in the order of the half."""

    correct: NDArray[np.int32]  # [examples] scored tokens that were right
    total: NDArray[np.int32]  # [examples] scored tokens
    loss: NDArray[np.float64]  # [examples] summed cross-entropy over the scored tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of the device while an attempt ran; None where the device does not say."""

    offset_s: float  # since the attempt's start
    utilisation: float | None = None  # 0..1
    memory_mib: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    energy_mj: float | None = None  # since the attempt's start


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of what a person would want in a log."""

    sequence: int
    time: str
    level: Level
    text: str
    attempt: str | None
    try_number: int | None
    plan: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonRecord:
    """One daemon process. `ended` is None while it runs, and for one that was killed."""

    id: str
    sequence: int
    pid: int
    pid_started: float | None  # /proc start time, to tell a reused pid
    host: str
    plan: str  # what it was asked to run, for people
    lock: str  # name of the lock it holds
    sqlite_version: str
    started: str
    beat_at: str
    step: str  # what it said last that it was doing
    ended: str | None
    progress: dict[str, Any]  # of the attempt that trains, see fsearch.daemon.training; empty between two
