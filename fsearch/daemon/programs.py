"""Which programs the daemon runs: those of `fsearch.train`, or a test's stand-ins for them.

FSEARCH_PROGRAMS names another package with modules of the same names, so that the daemon itself can be tested
with trainings that last a millisecond.
"""

from __future__ import annotations

import os
import sys


def command(module: str) -> list[str]:
    """The beginning of the command line of a program, such as "prepare"."""
    return [sys.executable, "-m", f"{os.environ.get('FSEARCH_PROGRAMS') or 'fsearch.train'}.{module}"]
