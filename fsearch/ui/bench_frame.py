"""One frame of a status in a process that has just started: `python -m fsearch.ui.bench_frame STATE`.

Prints as JSON what `fsearch bench daemon` wants to know: seconds from opening the record to the first frame,
on the wall and of this process.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from fsearch.ui.moment import moment_of
from fsearch.ui.screen import screen
from fsearch.ui.state import looking

if __name__ == "__main__":
    state, now = Path(sys.argv[1]), datetime.now(UTC)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    with looking(state) as reader:
        lines = screen(moment_of(reader, state, now), now, 80, None)
    found = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
    print(json.dumps({**found, "lines": len(lines)}))
