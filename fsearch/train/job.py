"""What every job process has in common: its arguments, its channel to whoever started it, and how it ends.

    python -m fsearch.train.X --messages-fd N --parent PID     with the job, one JSON object, on stdin

A job that goes wrong reports one `error` message; the traceback goes to stderr, which is the log file.

Deliberately not here: what any job does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from fsearch.system import messages, process
from fsearch.system.chain import chain
from fsearch.system.secrets import without_secrets

Job = dict[str, Any]

_MAX_ERROR_CHARACTERS = 4000
_MAX_LINK_CHARACTERS = 1000


class Channel:
    """The way of messages from a job to whoever started it. `phase` is the last one announced."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.phase = "start"

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message of the type `kind`. Raises BrokenPipeError if nobody listens any more."""
        messages.send(self.fd, {"type": kind, **fields})

    def enter(self, phase: str) -> None:
        """Announce that a phase begins, and when, by the monotonic clock."""
        self.phase = phase
        self.send("phase", phase=phase, at_s=time.monotonic())

    def told_to_begin(self) -> Job:
        """Wait for the job as it is to be run, in a process that was started ahead and has made itself ready.

        Where nobody wants it any more, the process ends here.
        """
        decoder = messages.Decoder()
        while data := os.read(self.fd, 1 << 16):
            if told := decoder.feed(data):
                return told[0]
        raise SystemExit(0)


RunJob = Callable[[Job, Channel], None]


def run_reporting(run: RunJob, job: Job, messages_fd: int) -> int:
    """Run a job and report an exception as an `error` message. Returns the process's exit status, 0 or 1."""
    channel = Channel(messages_fd)
    try:
        run(job, channel)
    except BrokenPipeError:
        _log_traceback()
        return 1
    except Exception as error:
        _log_traceback()
        channel.send(
            "error",
            exception=_qualified_name(type(error)),
            message=without_secrets(str(error))[:_MAX_ERROR_CHARACTERS],
            phase=channel.phase,
            chain=[_link(link) for link in chain(error)],
        )
        return 1
    return 0


def set_environment() -> None:
    """Set what torch, CUDA and numpy read of the environment; before they are imported.

    A GPU's numbers depend on the workspace that cuBLAS is given. The question whether there is a GPU must not
    start CUDA, which no fork survives. And the allocator grows in pages: batches of many lengths would else
    leave pieces that none of the next ones fits into.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads, which no fork may meet


def argument_parser() -> argparse.ArgumentParser:
    """The arguments that every job process takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    return parser


def main(run: RunJob, arguments: argparse.Namespace, on_parent_death: int = signal.SIGKILL) -> int:
    """The body of a job process: tie it to its parent, read the job, run it. Returns the exit status."""
    process.die_with_parent(arguments.parent, on_parent_death)
    return run_reporting(run, json.load(sys.stdin), arguments.messages_fd)


def _log_traceback() -> None:
    print(without_secrets(traceback.format_exc()), file=sys.stderr)


def _link(error: BaseException) -> dict[str, Any]:
    """What there is to know of one of the errors behind an error; a number that it lacks is None."""

    def number(owner: object, name: str) -> float | None:
        value = getattr(owner, name, None)
        return value if isinstance(value, int | float) else None

    status = number(error, "status")
    return {
        "names": [kind.__name__ for kind in type(error).__mro__ if kind is not object],
        "message": without_secrets(str(error))[:_MAX_LINK_CHARACTERS],
        "status": number(getattr(error, "response", None), "status_code") if status is None else status,
        "errno": number(error, "errno"),
        "retry_after_s": number(error, "retry_after_s"),
    }


def _qualified_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
