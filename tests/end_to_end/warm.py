"""`fsearch` without the seconds of its imports: a process that has imported it and forks for every command.

    python -m tests.end_to_end.warm

A command comes as one line of JSON on stdin: `arguments`, `environment`, `output`. Lines on stdout say its
pid and, when it has ended, its exit code. One command at a time.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

MODULES = ("fsearch.ui.run", "fsearch.store", "fsearch.tasks.prepared", "sqlalchemy.dialects.sqlite")


class Command:
    """One that runs; as much of `subprocess.Popen` as tests need."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self.pid: int = warm.hear()["pid"]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, the negative signal, or None while it runs."""
        if self.returncode is None and self._warm.has_said():
            self.returncode = self._warm.hear()["code"]
        return self.returncode

    def wait(self, limit_s: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not self._warm.has_said(limit_s):
                raise subprocess.TimeoutExpired("fsearch", limit_s or 0.0)
            self.returncode = self._warm.hear()["code"]
        return self.returncode


class Warm:
    """The process that has imported fsearch."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        self.hear()

    def start(self, arguments: list[str], environment: dict[str, str], output: Path) -> Command:
        """Run `fsearch ARGUMENTS` under exactly this environment; what it prints is added to `output`."""
        assert self._process.stdin is not None
        wanted = {"arguments": arguments, "environment": environment, "output": str(output)}
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._process.stdin.flush()
        return Command(self)

    def has_said(self, limit_s: float | None = 0.0) -> bool:
        """Whether there is something to hear, waiting so long for it."""
        return bool(select.select([self._process.stdout], [], [], limit_s)[0])

    def hear(self) -> dict[str, Any]:
        """The next line of it."""
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        assert isinstance(said, dict)
        return said

    def end(self) -> None:
        """It ends when nobody has a command for it any more."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def run(arguments: list[str], environment: dict[str, str], output: str) -> None:
    """Be `fsearch`. Never returns."""
    from fsearch.system import faults
    from fsearch.ui.cli import main

    os.setsid()
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.environ.clear()
    os.environ.update(environment)
    faults.arm(int(os.environ.pop(faults.VARIABLE, "0")))
    status = 1
    try:
        status = main(arguments)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def serve() -> None:
    """Fork for each command, and say how it ended."""
    for name in MODULES:
        importlib.import_module(name)
    print(json.dumps({}), flush=True)
    for line in sys.stdin.buffer:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(**wanted)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
