"""Programs that take too much: each ends as it should, and what it took is given back."""

from __future__ import annotations

import pytest

from fsearch.tasks.code_exec import Verdict
from tests.tasks.code_exec.conftest import Machine
from tests.tasks.code_exec.sandboxes import expect, outcome, program

PASSED, ERROR, TIMEOUT = Verdict.PASSED, Verdict.ERROR, Verdict.TIMEOUT

RESOURCES = {
    "fork bomb": ("import os\nwhile True: os.fork()", ERROR, ""),
    "many processes": (
        "import os, time\nfor _ in range(20):\n  if os.fork() == 0: break\ntime.sleep(60)",
        *(ERROR, "more than 16 processes"),
    ),
    "fork bomb that stops its watchman": (
        "import os, signal\nos.kill(1, signal.SIGSTOP)\nwhile True: os.fork()",
        *(ERROR, ""),
    ),
    "fork bomb of orphans": ("import os\nwhile True:\n  if os.fork(): os._exit(0)", ERROR, ""),
    "orphans that end": (
        "import os\nfor _ in range(100):\n  if os.fork() == 0: os._exit(os.fork() * 0)\n  os.wait()",
        *(PASSED, ""),
    ),
    "memory bomb": ("x = [0] * 10**9", ERROR, "MemoryError"),
    "memory bomb of several processes": (
        "import os, time\nfor _ in range(4): os.fork()\nx = bytearray(200 * 2**20)\ntime.sleep(60)",
        ERROR,
        "more than 1024 MiB of memory in all its processes together",
    ),
    "big file": ("open('x', 'wb').write(bytes(20 * 2**20))", ERROR, "File too large"),
    "full tmpfs": (
        "for i in range(10): open(f'x{i}', 'wb').write(bytes(15 * 2**20))",
        ERROR,
        "No space left on device",
    ),
    "many files": (
        "import time\nfor i in range(12_000): open(str(i), 'w').close()\ntime.sleep(60)",
        ERROR,
        "more than 10,000 files",
    ),
    "many descriptors": ("x = [open('/dev/null') for _ in range(100)]", ERROR, "Too many open files"),
    "many threads": (
        "import threading as t, time\nfor _ in range(200): t.Thread(target=time.sleep, args=(60,)).start()",
        ERROR,
        "",
    ),
    "deep recursion": ("def f(n): return f(n + 1)\nf(0)", ERROR, "RecursionError"),
    "deep recursion in C": (
        "import sys\nsys.setrecursionlimit(10**8)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
        ERROR,
        "",
    ),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", ERROR, "ended by SIGSEGV"),
    "core dump": ("import os\nos.abort()", ERROR, "ended by SIGABRT"),
}


@pytest.mark.parametrize("name", RESOURCES)
def test_what_takes_too_much_ends(name: str, machine: Machine) -> None:
    """Limits are errors of the program; what it took is given back."""
    code, verdict, said = RESOURCES[name]
    expect(outcome(program(code)), verdict, said)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "while True: print('x' * 10**6)",
        "import sys\nwhile True: sys.stderr.write('x' * 10**6)",
        "import sys\nsys.stdin.read()\nwhile True: pass",
        "import os, time\nwhile True:\n  if os.fork() == 0: os._exit(0)\n  os.wait()",
        "try:\n  while True: pass\nexcept BaseException: pass",
        "import signal, time\nfor s in range(1, 64):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nwhile True: time.sleep(1)",
        "class Slow(Exception):\n  def __str__(self):\n    while True: pass\nraise Slow",
    ],
)
def test_what_takes_too_long_is_killed(code: str, machine: Machine) -> None:
    """Whatever it does meanwhile."""
    expect(outcome(program(code), wall_limit_s=0.5), TIMEOUT, "or 0.5 s on the clock")
