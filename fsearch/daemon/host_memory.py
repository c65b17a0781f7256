"""The memory of the machine: what an attempt may take of it, and how often the system ran out.

Both are read of our own control group where there is one to be read, and of the whole machine. How often
the kernel's out-of-memory killer has struck tells its SIGKILL from anybody else's; only a difference means
something.

Deliberately not here: which process was hit. The kernel does not say so to an ordinary user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fsearch.system.memory import kib_in

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MACHINE = Path("/proc/vmstat")
_MEMORY = Path("/proc/meminfo")

_SHARE = 0.9
"""Of what is free, what one attempt may take; the rest is for preparations, and for whoever comes."""

_FILES = {  # by version of the control group: limit, what is taken, and the line of what could be given back
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def attempt_memory_mib() -> int:
    """What an attempt may take now, in MiB: nine tenths of what is free."""
    return max(1, int(_SHARE * free_mib()))


def free_mib(membership: Path = _MEMBERSHIP, root: Path = _CGROUPS, memory: Path = _MEMORY) -> float:
    """What can still be had, in MiB: of the machine or of a control group, whichever has less."""
    free = [kib_in(memory, "MemAvailable") / 1024]
    for folder, version in _groups(membership, root):
        limit_file, taken_file, given_back = _FILES[version]
        limit, taken = _number(folder / limit_file), _number(folder / taken_file)
        if limit is not None and taken is not None:
            free.append((limit - taken + _line(folder / "memory.stat", given_back)) / 2**20)
    return max(0.0, min(free))


def oom_kills(files: Iterable[Path] | None = None) -> int:
    """Processes ended for want of memory so far, by the first file that counts them; 0 where none does."""
    for path in counter_files() if files is None else files:
        try:
            text = path.read_text()
        except OSError:
            continue
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.strip().isdigit():
                return int(value)
    return 0


def counter_files(membership: Path = _MEMBERSHIP, root: Path = _CGROUPS) -> list[Path]:
    """Where the count may stand, the closest to us first."""
    names = {2: "memory.events", 1: "memory.oom_control"}
    found: list[Path] = []
    for base, version, group in _memberships(membership, root):
        found += [base / group / names[version], base / names[version]]
    return [*found, _MACHINE]


def _memberships(membership: Path, root: Path) -> Iterator[tuple[Path, int, str]]:
    """The hierarchies that hold memory: where they are mounted, their version, and our group in them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield root, 2, group.lstrip("/")
        elif "memory" in controllers.split(","):
            yield root / controllers, 1, group.lstrip("/")


def _groups(membership: Path, root: Path) -> Iterator[tuple[Path, int]]:
    """Our group's folder and those above it: each may have a limit.

    A container may see its own group as the root while `membership` names it as the host does.
    """
    for base, version, group in _memberships(membership, root):
        folder = base / group
        while folder != base:
            yield folder, version
            folder = folder.parent
        yield base, version


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none: no file, or `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _line(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
