"""A run whose daemon watches a GPU while its workers train on the CPU: `fsearch run` but for the device, and
for readings ten times as often, so that every attempt has some, however short it is.

python -m tests.nvml.watched run PLAN --state DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

from fsearch import daemon, tasks
from fsearch.daemon import telemetry
from fsearch.plan import parse
from fsearch.ui.layout import console
from fsearch.ui.progress import Lines
from tests.nvml.standin import FIRST, MODEL

if __name__ == "__main__":
    telemetry.SAMPLE_EVERY_S /= 10
    _, _, path, _, state = sys.argv
    plan = parse(Path(path).read_text(), tasks.schemas(), path)
    device = daemon.Device(torch="cpu", model=MODEL, uuid=FIRST)
    sys.exit(daemon.run([plan], Path(state), device, 1, Lines([plan], console())))
