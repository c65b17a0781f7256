"""Processes that die with their parent, identity of a process, and whole groups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fsearch.system import process
from tests.alive import runs, wait_until_gone

CHAIN = """
import os, subprocess, sys, time
from fsearch.system.process import die_with_parent
depth = int(sys.argv[1])
if sys.argv[2] != "0":
    die_with_parent(int(sys.argv[2]))
print(os.getpid(), flush=True)
if depth:
    subprocess.Popen([sys.executable, "-c", sys.argv[3], str(depth - 1), str(os.getpid()), sys.argv[3]])
time.sleep(60)
"""


def test_killing_the_first_of_a_chain_ends_them_all() -> None:
    """kill -9 of the first of three processes: within two seconds child and grandchild are gone."""
    first = subprocess.Popen(
        [sys.executable, "-c", CHAIN, "2", "0", CHAIN], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    pids = [int(first.stdout.readline()) for _ in range(3)]
    assert all(runs(pid) for pid in pids)
    first.kill()
    first.wait()
    assert wait_until_gone(pids) == []
    first.stdout.close()


def test_a_parent_that_is_already_gone_ends_the_child() -> None:
    """A child whose parent is not the named one (it died first) exits with status 1 and runs nothing more."""
    program = "from fsearch.system.process import die_with_parent; die_with_parent(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_start_time_tells_processes_apart() -> None:
    """A start time stays the same, after its parent's and before now; a process lives until it is dead."""
    ours = process.start_time(os.getpid())
    child = subprocess.Popen(["sleep", "60"])
    begun = process.start_time(child.pid)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert ours is not None and begun is not None
    assert ours <= begun <= uptime + 0.01
    assert process.start_time(child.pid) == begun
    assert process.lives(child.pid, begun)
    assert not process.lives(child.pid, begun - 1) and not process.lives(child.pid, None)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.lives(child.pid, begun)  # dead, but not reaped yet
    child.wait()
    assert process.start_time(child.pid) is None


def test_a_tree_is_killed_whole() -> None:
    """kill_tree ends a process and all below it, also one that ignores SIGTERM in a session of its own."""
    program = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
depth = int(sys.argv[1])
if depth:
    command = [sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]]
    print(subprocess.Popen(command, start_new_session=True).pid, flush=True)
time.sleep(60)
"""
    first = subprocess.Popen([sys.executable, "-c", program, "2", program], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    below = [int(first.stdout.readline()) for _ in range(2)]
    process.kill_tree(first.pid)
    assert first.wait() == -signal.SIGKILL
    assert wait_until_gone(below) == []
    process.kill_tree(first.pid)  # which is gone: nothing happens
    first.stdout.close()


def test_a_group_is_killed_whole() -> None:
    """kill_group ends the leader, its child and a child that has made itself a group of its own; it does
    nothing for a group that is gone, and refuses our own."""
    program = """
import os, subprocess, time
for group in (None, 0):
    print(subprocess.Popen(["sleep", "60"], process_group=group).pid, flush=True)
time.sleep(60)
"""
    leader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    children = [int(leader.stdout.readline()) for _ in range(2)]
    assert [os.getpgid(child) for child in children] == [leader.pid, children[1]]
    process.kill_group(leader.pid)
    assert leader.wait() == -signal.SIGKILL
    assert wait_until_gone(children) == []
    process.kill_group(leader.pid)
    with pytest.raises(ValueError, match="refusing"):
        process.kill_group(os.getpgrp())
    leader.stdout.close()
