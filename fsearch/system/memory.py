"""What the system says of memory: its own, and that of a process."""

from __future__ import annotations

from pathlib import Path


def kib_in(path: Path, field: str) -> int:
    """A figure from a file with lines like `VmHWM:  1234 kB`: /proc/meminfo, /proc/PID/status."""
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
