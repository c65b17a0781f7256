"""How often the kernel's out-of-memory killer has struck: what tells its SIGKILL from anybody else's.

The count is that of our own control group, where there is one to be read (version 2: memory.events,
version 1: memory.oom_control), else that of the whole machine. Only a difference means something.

Deliberately not here: which process was hit. The kernel does not say so to an ordinary user.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")


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


def counter_files(membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> list[Path]:
    """Where the count may stand, the closest to us first.

    A container may see its own group as the root while `membership` names it as the host does, hence
    the folder itself after the one that is named.
    """
    found: list[Path] = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            base, name = root, "memory.events"
        elif "memory" in controllers.split(","):
            base, name = root / controllers, "memory.oom_control"
        else:
            continue
        found += [base / group.lstrip("/") / name, base / name]
    return [*found, _MACHINE]
