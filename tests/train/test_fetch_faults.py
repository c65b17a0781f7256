"""A hub that fails while data are fetched: every failure has its outcome, and none changes the examples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.hub import Fault, Hub, silent_port
from tests.train.preparations import Ended, Preparation, colours, run, run_all

WATCHDOG_S = 6.0


@dataclass(frozen=True)
class Request:
    line: str  # method and path
    before: int  # how many such requests came before

    @property
    def name(self) -> str:
        """As a person reads it."""
        return re.sub(r"[0-9a-f]{40}", "COMMIT", self.line.replace("/acme/colours", ""))


@dataclass(frozen=True)
class Kind:
    """A way to fail."""

    name: str
    action: str
    more: dict[str, object] = field(default_factory=dict)  # fields of the fault
    methods: tuple[str, ...] = ("GET", "HEAD")
    fetch_s: float = 120.0

    def at(self, request: Request) -> Fault:
        """This fault of one request, and with `times` of those that repeat it."""
        fields = {"times": 1, **self.more}
        return Fault(f"^{re.escape(request.line)}$", self.action, skip=request.before, **fields)  # type: ignore[arg-type]


ALWAYS = {"times": 1 << 30}
FAST = [
    Kind("reset", "reset"),
    Kind("closed without an answer", "close"),
    Kind("503 once", "status", methods=("GET",)),
    Kind("body cut once", "cut", methods=("GET",)),
]
SLOW = [
    Kind("refused after it", "last"),
    Kind("stalls", "stall", ALWAYS, fetch_s=WATCHDOG_S),
    Kind("503 always", "status", ALWAYS),
    Kind("429, Retry-After: 3600", "status", {**ALWAYS, "status": 429, "headers": {"Retry-After": "3600"}}),
    Kind("429 always", "status", {**ALWAYS, "status": 429}),
    Kind("trickles", "slow", {"piece": 40, "pause_s": 0.5}, ("GET",), fetch_s=WATCHDOG_S),
    Kind("body cut always", "cut", {**ALWAYS, "after": 10}, ("GET",)),
    Kind("body reset always", "cutreset", ALWAYS, ("GET",)),
    Kind("body stalls", "stall", {**ALWAYS, "after": 10}, ("GET",), fetch_s=WATCHDOG_S),
    Kind("body short", "short", ALWAYS, ("GET",)),
    Kind("body damaged once", "corrupt", {}, ("GET",)),
    Kind("body damaged always", "corrupt", ALWAYS, ("GET",)),
    Kind("no hub (no commit in the answer)", "drop_header", ALWAYS, ("HEAD",)),
]


@dataclass(frozen=True)
class Case:
    kind: Kind
    request: Request
    fault: Fault
    first: Ended
    again: Ended  # with a hub in peace


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Request]]:
    """What is prepared without any failure, and what the hub is asked for on the way."""
    with Hub(colours()) as hub:
        sha256 = run(Preparation(tmp_path_factory.mktemp("untouched"), hub.address)).sha256
        lines = [f"{command} {path}" for command, path, _ in hub.asked]
    return sha256, [Request(line, lines[:place].count(line)) for place, line in enumerate(lines)]


def cases(folder: Path, wanted: Sequence[tuple[Kind, Request]], at_once: int) -> Iterator[Case]:
    """A cold preparation for each failure, with a hub of its own, and then another with a hub in peace."""
    faults = [kind.at(request) for kind, request in wanted]
    hubs = [Hub(colours(), faults=[fault]) for fault in faults]
    peace = Hub(colours())
    try:
        made = [
            Preparation(folder / str(place), hub.address, fetch_s=kind.fetch_s)
            for place, (hub, (kind, _)) in enumerate(zip(hubs, wanted, strict=True))
        ]
        first = run_all(made, at_once)
        for preparation in made:
            preparation.address = peace.address
        again = run_all(made)
    finally:
        for hub in [*hubs, peace]:
            hub.stop()
    for (kind, request), fault, one, two in zip(wanted, faults, first, again, strict=True):
        yield Case(kind, request, fault, one, two)


def check(case: Case, sha256: str) -> None:
    """A failure is waited out or mended on the spot, and leaves no trace in the examples."""
    where = f"{case.kind.name} at {case.request.name}"
    assert case.fault.seen, f"{where}: never asked for"
    assert case.first.word in ("network_wait", "completed"), f"{where}: {case.first.outcome}"
    if case.first.word == "completed":
        assert case.first.sha256 == sha256, f"{where}: other examples"
    else:
        assert case.first.phases[-1] == "fetch", where
        assert case.first.outcome.outcome_class == "infrastructure" and len(case.first.outcome.reason) > 20
    assert case.again.sha256 == sha256, f"after {where}: other examples"


def every(kinds: Sequence[Kind], requests: Sequence[Request]) -> list[tuple[Kind, Request]]:
    return [
        (kind, request)
        for kind in kinds
        for request in requests
        if request.line.partition(" ")[0] in kind.methods
    ]


def test_fast_failures_at_every_request(untouched: tuple[str, list[Request]], tmp_path: Path) -> None:
    """A connection that is reset, wherever it happens, and the other kinds at the first request and at a
    table: they are waited for, or mended by the client; the reader of a body mends none."""
    sha256, requests = untouched
    first = requests[0]
    table = next(one for one in requests if one.name.startswith("GET") and "train.parquet" in one.name)
    found = list(cases(tmp_path, every(FAST[:1], requests) + every(FAST[1:], [first, table]), at_once=2))
    for case in found:
        check(case, sha256)
    ended = {(case.kind.name, case.request.name): case.first.word for case in found}
    assert {place for place, word in ended.items() if word == "completed"} == {
        ("closed without an answer", table.name),
        ("body cut once", table.name),
    }


def test_one_of_each_slow_kind(untouched: tuple[str, list[Request]], tmp_path: Path) -> None:
    """Each at one request, all at the same time; what the hub asked for is in the outcome."""
    sha256, requests = untouched

    def request(start: str) -> Request:
        return next(request for request in requests if request.name.startswith(start))

    info, card = request("GET /api/datasets/revision"), request("HEAD /datasets/resolve/COMMIT/README")
    table, head = (
        request("GET /datasets/resolve/COMMIT/plain"),
        request("HEAD /datasets/resolve/COMMIT/plain"),
    )
    places = {"stalls": info, "503 always": card, "refused after it": info}
    wanted = [(kind, places.get(kind.name, table if "GET" in kind.methods else head)) for kind in SLOW]
    found = {case.kind.name: case for case in cases(tmp_path, wanted, at_once=len(wanted))}
    for case in found.values():
        check(case, sha256)
    outcomes = {name: case.first.outcome for name, case in found.items()}
    assert {name for name, outcome in outcomes.items() if outcome.word == "completed"} == {
        "trickles",
        "body damaged once",
    }
    assert {name: outcome.pattern for name, outcome in outcomes.items() if outcome.word != "completed"} == {
        "refused after it": "no connection",
        "stalls": "silent",
        "503 always": "status 5xx",
        "429, Retry-After: 3600": "busy",
        "429 always": "status 408, 425 or 429",
        "body cut always": "broken off",
        "body reset always": "broken off",
        "body stalls": "silent",
        "body short": "incomplete",
        "body damaged always": "damaged",
        "no hub (no commit in the answer)": "not a hub",
    }
    busy = found["429, Retry-After: 3600"].first
    assert busy.outcome.retry_after_s == 3600 and busy.seconds < 30, "nobody sleeps for a busy hub"
    trickled = found["trickles"].first
    assert trickled.seconds > 2 * WATCHDOG_S, "it went on for longer than it may be silent"
    assert any(message.get("doing", "").startswith("downloading") for message in trickled.messages)


def test_nobody_there(untouched: tuple[str, list[Request]], tmp_path: Path) -> None:
    """No server, no such name, and the client told to stay offline."""
    with silent_port() as port:
        nobody = f"http://127.0.0.1:{port}"
        found = run_all(
            [
                Preparation(tmp_path / "refused", nobody),
                Preparation(tmp_path / "unknown", "http://hub.invalid"),
                Preparation(tmp_path / "offline", nobody, environment={"HF_HUB_OFFLINE": "1"}),
            ],
            at_once=3,
        )
    assert [ended.word for ended in found] == ["network_wait"] * 3
    assert [ended.outcome.pattern for ended in found] == ["no connection", "no connection", "offline mode"]
    assert "HF_HUB_OFFLINE is set" in found[2].outcome.reason


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_failure_at_every_request(untouched: tuple[str, list[Request]], tmp_path: Path) -> None:
    """The whole matrix. $FSEARCH_FAULT_TABLE names a file for what happened."""
    sha256, requests = untouched
    found = list(cases(tmp_path, every([*FAST, *SLOW], requests), at_once=6))
    if path := os.environ.get("FSEARCH_FAULT_TABLE"):
        Path(path).write_text(table_of(found))
    for case in found:
        check(case, sha256)


def table_of(found: Sequence[Case]) -> str:
    """In Markdown; the times are those of the whole process."""
    lines = ["| failure | at the request | outcome | line of the table | s |", "|---|---|---|---|---:|"]
    for case in found:
        first = case.first
        line = "" if first.word == "completed" else first.outcome.pattern
        lines.append(
            f"| {case.kind.name} | `{case.request.name}` | {first.word} | {line} | {first.seconds:.0f} |"
        )
    return "\n".join([*lines, ""])
