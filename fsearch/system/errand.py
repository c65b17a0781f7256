"""Runs a command that is not ours once: for a limited time, with a line on its standard input.

    python -m fsearch.system.errand --messages-fd N --parent PID     with the job, one JSON object, on stdin

This process leads the session in which the command runs. Whoever started it kills that session at the end; if
they die first, it does so itself. A `result` message says in `failed` what went wrong, "" for nothing.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from typing import Any

from fsearch.system import messages, process
from fsearch.system.secrets import environment_without_secrets

PROGRAM = [sys.executable, "-m", "fsearch.system.errand"]


def run(job: dict[str, Any]) -> str:
    """Run `command` in `folder` with `input` on its stdin, at most `limit_s`. Gives what went wrong, or "".

    A command that does not read its input is none the worse for it.
    """
    try:
        started = subprocess.Popen(
            job["command"], stdin=subprocess.PIPE, cwd=job["folder"], env=environment_without_secrets()
        )
    except (OSError, ValueError) as error:
        return f"it could not be started ({getattr(error, 'strerror', None) or error})"
    try:
        started.communicate(job["input"].encode(), timeout=job["limit_s"])
    except subprocess.TimeoutExpired:
        return f"it had not ended after {job['limit_s']:g} s, and was killed"
    code = started.returncode
    if code < 0:
        return f"it was ended by signal {-code}"
    return f"it ended with exit code {code}" if code else ""


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: process.end_own_session())
    process.die_with_parent(arguments.parent, signal.SIGTERM)
    messages.send(arguments.messages_fd, {"type": "result", "failed": run(json.load(sys.stdin))})
    return 0


if __name__ == "__main__":
    sys.exit(_main())
