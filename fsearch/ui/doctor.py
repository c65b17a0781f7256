"""`fsearch doctor`: what works on this machine, what does not, and what to do about it.

Every look is a process of its own with a deadline, so that none can hang or crash the others. Nothing is
changed, but for a kernel that is not built yet: it is built into the state's cache, as a run would.
"""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.text import Text

from fsearch.daemon.child import Child, spawn, start
from fsearch.system.plain import plain
from fsearch.ui.errors import FAILED, OK
from fsearch.ui.layout import console, paragraph, put
from fsearch.ui.state import folder, shown

SCHEMA = 1
ALONE = [sys.executable, "-m", "fsearch.ui.doctor_checks"]
KERNEL_DEADLINE_S = 960.0
"""A little more than a build may take."""

REMEDIES = {
    "GPU": "restart the machine; nvidia-smi has to work",
    "torch": "install torch anew",
    "kernel": "remove cache/kernel in the state and look again",
    "hub": "look at the network, HF_ENDPOINT and HTTPS_PROXY",
}
"""What to do about a thing where already the look at it hangs or crashes."""

_LOOK_EVERY_S = 0.1
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look has found of one thing. `todo` is a remedy, "" where nothing is to be done."""

    name: str
    level: str  # ok, warn, fail
    found: str
    todo: str = ""


@dataclass(slots=True)
class Look:
    """A process that looks at some things, in this order; silent for longer than `deadline_s` it is ended."""

    names: tuple[str, ...]
    child: Child
    log: Path
    deadline_s: float
    findings: dict[str, Finding] = field(default_factory=dict)
    ended: bool = False

    def work(self) -> None:
        """Take in what it has said; what it leaves open when it ends is a failure."""
        if self.ended:
            return
        self._hear()
        if self.child.silent_s() > self.deadline_s:
            self.child.kill()
            while not self.child.ended:
                time.sleep(_LOOK_EVERY_S)
            self._end(f"no answer in {self.deadline_s:.0f} s")
        elif self.child.ended:
            self._hear()
            self._end("")

    def _hear(self) -> None:
        for message in self.child.read():
            if message.get("type") == "finding":
                said = {name: plain(str(message[name])) for name in ("name", "level", "found")}
                self.findings[said["name"]] = Finding(**said, todo=str(message["todo"]))

    def _end(self, why: str) -> None:
        ending = self.child.close()
        self.ended = True
        if not why:
            how = f"signal {ending.signal}" if ending.signal else f"exit code {ending.exit_code}"
            said = self.log.read_text(errors="replace").strip().split("\n")[-1] if self.log.exists() else ""
            why = f"the look at it broke off ({how}){f': {said}' if said else ''}"
            if ending.error:
                why = f"the look at it failed ({ending.error['exception']}: {ending.error['message']})"
        first, *others = [name for name in self.names if name not in self.findings] or [""]
        if first:
            self.findings[first] = Finding(
                first, "fail", plain(why), REMEDIES.get(first, "look at it by hand")
            )
        for name in others:
            self.findings[name] = Finding(name, "warn", f"not looked at, because of the {first}")


def answer(options: argparse.Namespace) -> int:
    """Look at everything; gives 0 if nothing has to be mended, else 1."""
    state = folder(options.state)
    screen = console()
    found = []
    if not options.json:
        put(screen, [Text(f"state {shown(state)}", "dim")])
    for one in examined(state, screen, quiet=options.json):
        found.append(one)
        if not options.json:
            put(screen, lines(one, screen.width))
            screen.file.flush()
    bad = [one.name for one in found if one.level == "fail"]
    if options.json:
        checks = [asdict(one) for one in found]
        print(json.dumps({"schema": SCHEMA, "ok": not bad, "state": str(state), "checks": checks}, indent=1))
    else:
        ending = f"To be mended: {', '.join(bad)}." if bad else "Nothing has to be mended."
        put(screen, [Text(), *paragraph(ending, screen.width, indent=0)])
    return FAILED if bad else OK


def examined(state: Path, screen: Console, *, quiet: bool) -> Iterator[Finding]:
    """All findings in their order, each as soon as it and those before it are known."""
    with TemporaryDirectory(prefix="fsearch-") as place, _saying(screen, quiet) as say:
        gpu = _alone("gpu", ("GPU", "driver"), state, Path(place))
        try:
            yield from _in_order([gpu], say)
        finally:
            gpu.child.kill()
        known = gpu.child.ending.result or {}
        looks = _looks(state, Path(place), known.get("cuda", []), known.get("busy", False))
        try:
            yield from _in_order(looks, say)
        finally:
            for look in looks:
                if not look.ended:
                    look.child.kill()


def _looks(state: Path, place: Path, cuda: list[str], busy: bool) -> list[Look]:
    cache = str(state / "cache" / "kernel")
    kernel = {"kind": "doctor", "cache": cache, "cuda": cuda, "busy": busy}
    names = ("torch", "C++ compiler", "CUDA toolkit", "ninja", "kernel")
    log = place / "kernel.log"
    return [
        *(_alone(name, (name,), state, place) for name in ("disk", "locks", "record", "hub")),
        Look(names, spawn("doctor", kernel, log), log, KERNEL_DEADLINE_S),
    ]


def _alone(look: str, names: tuple[str, ...], state: Path, place: Path) -> Look:
    log = place / f"{look}.log"
    deadline_s = 60.0 if look == "record" else 20.0  # a large record is read whole
    return Look(names, start(ALONE, {"look": look, "state": str(state)}, log), log, deadline_s)


def _in_order(looks: list[Look], say: Any) -> Iterator[Finding]:
    """Wait for the looks; all of them go on meanwhile."""
    for look in looks:
        for name in look.names:
            while name not in look.findings:
                sources = [source for one in looks if not one.ended for source in one.child.open]
                select.select(sources, [], [], _LOOK_EVERY_S)
                for one in looks:
                    one.work()
                say(str(look.child.progress.get("doing", f"looking at {name}")))
            yield look.findings[name]


@contextmanager
def _saying(screen: Console, quiet: bool) -> Iterator[Any]:
    """Say in one changing line what is being done, on a terminal."""
    if quiet or not screen.is_terminal:
        yield lambda doing: None
        return
    with screen.status(Text("looking"), spinner="line") as status:
        yield lambda doing: status.update(Text(doing))


def lines(finding: Finding, width: int) -> list[Text]:
    """A finding and its remedy; commands in a remedy are indented and stay as they are."""
    level = Text.assemble((f"{finding.level:<4}", _STYLES[finding.level]), f"  {finding.name:<12}  ")
    first, *rest = paragraph(finding.found, width, indent=level.cell_len)
    result = [Text.assemble(level, first.plain.lstrip()), *rest]
    for line in finding.todo.splitlines():
        if line.startswith("  "):
            result.append(Text(f"{' ' * level.cell_len}{line}"))
        else:
            result += paragraph(f"-> {line}", width, indent=level.cell_len, style=_STYLES[finding.level])
    return result
