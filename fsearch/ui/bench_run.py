"""`fsearch run` on the CPU for a bench, tied to the life of whoever measures it.

    python -m fsearch.ui.bench_run PARENT PLAN STATE THREADS

A process of its own, because its start is part of what is measured.
"""

from __future__ import annotations

import sys

from fsearch.system.process import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    from fsearch.ui.cli import main

    plan, state, threads = sys.argv[2:]
    sys.exit(main(["run", plan, "--state", state, "--device", "cpu", "--threads", threads]))
