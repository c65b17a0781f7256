"""Whether a level of running programs holds on this machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fsearch.tasks.code_exec.program import Level, Program, Verdict
from fsearch.tasks.code_exec.run import WALL_LIMIT_S, run
from fsearch.tasks.code_exec.sandbox import SandboxFailed, shown_folders

KERNEL_SETTING = "/proc/sys/kernel/core_pattern"
"""What root may write without any capability, and the kernel then runs."""

_SHORT_S = 0.5
_FAKE = """
import os
for fd in range(1, 64):
    try:
        os.write(fd, b"ok\\n")
    except OSError:
        pass
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """A program whose verdict is known where the level holds."""

    what: str
    program: Program
    right: Verdict
    wall_limit_s: float = WALL_LIMIT_S


def self_test(level: Level) -> str:
    """Empty if the level holds, else one sentence that says why it cannot be used here.

    At both levels: a right program passes, a wrong one fails, a time-out kills, ending early is not passing.
    At `bwrap` also: the network, the home folder and temporary files of others are out of reach, and nothing
    can be written but in the program's own folder. Takes about a second.
    """
    if level == "bwrap" and shutil.which("bwrap") is None:
        return "bubblewrap is not installed: there is no bwrap on the PATH (Debian: apt install bubblewrap)."
    with tempfile.NamedTemporaryFile(prefix="fsearch-self-test-") as outside:
        probes = [*_of_any_level(), *(_of_the_sandbox(outside.name) if level == "bwrap" else ())]
        try:
            with ThreadPoolExecutor(2) as pool:
                found = list(pool.map(lambda one: run(one.program, level, one.wall_limit_s), probes))
        except SandboxFailed as failed:
            return str(failed)
    for probe, ran in zip(probes, found, strict=True):
        if ran.verdict != probe.right:
            gave = f"{ran.verdict.value} ({ran.reason})" if ran.reason else ran.verdict.value
            return f"The level {level} does not hold: {probe.what} gave {gave}, not {probe.right.value}."
    return ""


def _of_any_level() -> list[Probe]:
    sleep = Program("import time\ntime.sleep(60)", "", ("pass",))
    return [
        Probe("a right program", Program("x = 1", "", ("assert x == 1",)), Verdict.PASSED),
        Probe("a wrong program", Program("x = 1", "", ("assert x == 2",)), Verdict.FAILED_ASSERTION),
        Probe("a program that sleeps for too long", sleep, Verdict.TIMEOUT, _SHORT_S),
        Probe("a program that only claims to pass", Program(_FAKE, "", ("pass",)), Verdict.ERROR),
    ]


def _of_the_sandbox(outside: str) -> list[Probe]:
    """Tries of what must be refused, and looks for what must be hidden, which pass where they see nothing."""
    home = Path("~").expanduser()
    visible = [*shown_folders(), *map(Path, ("/proc", "/dev", "/tmp"))]
    private = [
        path.name
        for path in (home.iterdir() if home.is_dir() else ())
        if not any(folder.is_relative_to(path) for folder in visible)
    ]
    hidden = {
        "a look into the home folder": (
            f"import os\nhome, private = {str(home)!r}, {private!r}",
            "assert not os.path.isdir(home) or not set(private) & set(os.listdir(home))",
        ),
        "a look at temporary files of others": ("import os", f"assert not os.path.exists({outside!r})"),
        "a look at this machine's network": (
            "import os",
            f"assert os.readlink('/proc/self/ns/net') != {os.readlink('/proc/self/ns/net')!r}",
        ),
    }
    away = Program("import socket\nsocket.create_connection(('192.0.2.1', 9), 1)", "", ("pass",))
    folders = map(Path, ("/", "/dev", "/usr", sys.base_prefix))
    new_files = [str(folder.resolve() / "fsearch-self-test") for folder in folders]
    return [
        *(Probe(what, Program(code, "", (test,)), Verdict.PASSED) for what, (code, test) in hidden.items()),
        Probe("a connection to another machine", away, Verdict.BLOCKED),  # the address is for documentation
        *(
            Probe(
                f"opening {path} to write",
                Program(f"import os\nos.open({path!r}, os.O_WRONLY | {flags})", "", ("pass",)),
                Verdict.BLOCKED,
            )
            for path, flags in [*((path, "os.O_CREAT") for path in new_files), (KERNEL_SETTING, "0")]
        ),
    ]
