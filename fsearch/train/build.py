"""Builds the compiled kernel in a process of its own, and takes its compilers with it when it has to go.

    python -m fsearch.train.build --messages-fd N --parent PID     with the job on stdin

A compiler knows nothing of our parent's death. So this process leads a session of its own, in which ninja and
the compilers run, asks for SIGTERM instead of SIGKILL when its parent dies, and then kills the session.

Deliberately not here: how the kernel is compiled and cached (fsearch.kernels.build).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from fsearch.system import process
from fsearch.system.disk import require_room
from fsearch.train.job import Channel, Job, argument_parser, main

_BUILD_BYTES = 64 << 20
"""What the compilers' files may take for a while."""


def run(job: Job, channel: Channel) -> None:
    """Build the kernel of a job, or find it built, and report where it is."""
    channel.enter("build")
    from fsearch.kernels import build, library  # imports torch: a second in which our parent may die
    from fsearch.kernels.toolchain import NoSpace

    began = time.monotonic()
    cache = Path(job["cache"])
    try:
        if build.find(cache, cuda=job["cuda"]) is None:
            require_room(cache, _BUILD_BYTES)
        built = build.build(
            cache, cuda=job["cuda"], progress=lambda line: channel.send("progress", doing=line)
        )
    except build.KernelBuildError as error:
        reason = error.reason
        if error.detail:
            print(error.detail, file=sys.stderr)
            reason += "; all that the compilers said is in the log"
        outcome = "disk_full" if isinstance(error, NoSpace) else "kernel_build_failed"
        channel.send("result", outcome=outcome, reason=reason, backend=library.FALLBACK)
        return
    channel.send(
        "result",
        outcome="completed",
        backend=built.backend,
        library=str(built.library),
        seconds=time.monotonic() - began,
    )


def _lead_a_session() -> None:
    """Have SIGTERM end this process with everything it has started."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: process.end_own_session())


if __name__ == "__main__":
    _lead_a_session()
    sys.exit(main(run, argument_parser().parse_args(), on_parent_death=signal.SIGTERM))
