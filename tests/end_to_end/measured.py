"""`fsearch` as its users start it; at the end it writes down what it had loaded and how much memory it took.

python -m tests.end_to_end.measured FILE run PLAN ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fsearch.ui.cli import main

if __name__ == "__main__":
    code = main(sys.argv[2:])
    status = Path("/proc/self/status").read_text()
    memory_kib = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if "kB" in line}
    loaded = sorted(sys.modules)
    Path(sys.argv[1]).write_text(json.dumps({"memory_kib": memory_kib, "loaded": loaded}))
    sys.exit(code)
