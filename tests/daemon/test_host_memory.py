"""What is free, and the out-of-memory killer's count, in each of the forms in which a kernel gives it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from fsearch.daemon import child, host_memory
from fsearch.daemon.child import Child
from fsearch.daemon.logs import Log
from fsearch.daemon.outcomes import outcome_of
from fsearch.system.messages import Reader

V2 = "low 0\nhigh 12\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


def test_both_versions_of_control_groups_are_read(tmp_path: Path) -> None:
    """The line counts, not those that only begin like it; a file that is not there is passed over."""
    second, first, empty = tmp_path / "memory.events", tmp_path / "memory.oom_control", tmp_path / "empty"
    second.write_text(V2)
    first.write_text(V1)
    empty.write_text("nr_free_pages 12\n")
    assert host_memory.oom_kills([second, first]) == 2
    assert host_memory.oom_kills([tmp_path / "missing", empty, first]) == 5
    assert host_memory.oom_kills([tmp_path / "missing"]) == 0


def test_our_own_group_comes_before_the_whole_machine(tmp_path: Path) -> None:
    """The group this process is in, by the names of both versions, also as a container sees it."""
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu,cpuacct:/a\n4:memory:/jobs/one\n0::/user.slice/us\n")
    root = tmp_path / "fs"
    files = host_memory.counter_files(membership, root)
    assert files == [
        root / "memory/jobs/one/memory.oom_control",
        root / "memory/memory.oom_control",
        root / "user.slice/us/memory.events",
        root / "memory.events",
        Path("/proc/vmstat"),
    ]
    (root / "user.slice/us").mkdir(parents=True)
    (root / "user.slice/us/memory.events").write_text(V2)
    assert host_memory.oom_kills(files) == 2


def test_what_is_free_is_what_the_tightest_group_has(tmp_path: Path) -> None:
    """Of the machine, our group and those above; what a group could give back is free; `max` is no limit."""
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9000000 kB\nMemAvailable:    4096000 kB\n")
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("4:memory:/jobs/one\n0::/us/job\n")

    def group(name: str, files: dict[str, str]) -> None:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)

    def free() -> float:
        return host_memory.free_mib(membership, root, memory)

    assert free() == 4000
    group("us/job", {"memory.max": "max\n", "memory.current": "5\n"})
    assert free() == 4000
    group("us", {"memory.max": f"{3000 << 20}\n", "memory.current": f"{500 << 20}\n"})
    assert free() == 2500
    group("us", {"memory.stat": f"anon 7\ninactive_file {100 << 20}\ninactive_anon 9\n"})
    assert free() == 2600
    group("memory/jobs/one", {"memory.limit_in_bytes": f"{2000 << 20}\n", "memory.usage_in_bytes": "0\n"})
    assert free() == 2000
    group("memory/jobs/one", {"memory.usage_in_bytes": f"{2001 << 20}\n"})
    assert free() == 0
    assert host_memory.attempt_memory_mib() > 100


def test_this_machine_is_read_without_a_fault() -> None:
    """Whatever kernel and container this is, the question has an answer, and no count goes back."""
    assert host_memory.oom_kills(host_memory.counter_files(Path("/nonexistent"))) >= 0
    assert host_memory.oom_kills() <= host_memory.oom_kills()


@pytest.mark.parametrize(("struck", "word"), [(True, "host_oom"), (False, "interrupted")])
def test_a_sigkill_is_the_killers_only_if_it_struck_meanwhile(
    struck: bool, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same death is `host_oom` or a kill from outside, by the count before and after."""
    events = tmp_path / "memory.events"
    events.write_text(V2)
    monkeypatch.setattr(child, "oom_kills", lambda: host_memory.oom_kills([events]))
    read, write = os.pipe()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        victim = Child(process.pid, Reader(read), Log(tmp_path / "log"), process)
        os.close(write)
        if struck:
            events.write_text(V2.replace("oom_kill 2", "oom_kill 3"))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    assert victim.ended
    assert outcome_of(victim.close()).word == word
