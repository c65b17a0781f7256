"""Hostile programs in the sandbox: each ends as it should; this process, its files and its network stay."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from fsearch.tasks.code_exec import Verdict
from fsearch.tasks.code_exec.run import WALL_LIMIT_S
from tests.tasks.code_exec.conftest import Machine
from tests.tasks.code_exec.sandboxes import TOKEN, expect, need_sandbox, outcome, program

PASSED, WRONG, ERROR, BLOCKED = Verdict.PASSED, Verdict.FAILED_ASSERTION, Verdict.ERROR, Verdict.BLOCKED

LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
EVERY_DESCRIPTOR = """
import os
def everywhere(data):
    for fd in range(64):
        try:
            os.write(fd, data)
        except OSError:
            pass
"""


def test_files_outside_cannot_be_written(machine: Machine) -> None:
    """Neither the system's, nor the interpreter's, nor the roots of file systems in memory."""
    places = ("/x", "/usr/x", "/lib/x", "/dev/x", "/dev/shm/x", f"{sys.base_prefix}/x")
    there = ("/driver.py", os.__file__, "/usr/bin/env", "/dev/shm")
    settings = (
        "/proc/sys/kernel/core_pattern",
        "/proc/1/oom_score_adj",
        "/proc/1/mem",
    )
    for place in places:
        expect(outcome(program(f"open({place!r}, 'x')")), BLOCKED)
        assert not Path(place).exists()
    for place in (*there, *settings):
        attempt = "os.open({0!r}, os.O_WRONLY)" if not place.endswith("shm") else "os.chmod({0!r}, 0)"
        expect(outcome(program("import os\n" + attempt.format(place))), BLOCKED)
    for place in ("/x", "/usr/x"):
        expect(outcome(program(f"import os\nos.mkdir({place!r})")), BLOCKED, "Read-only file system")
    expect(outcome(program("import os\nos.remove('/usr/bin/env')")), BLOCKED)


def test_every_mount_is_to_be_read(machine: Machine) -> None:
    """Its own folder aside, terminals, and the five device files that hold nothing."""
    code = """
mounts = [line.split() for line in open("/proc/self/mountinfo")]
writable = {fields[4] for fields in mounts if "rw" in fields[5].split(",")}
"""
    nothing = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    test = f"assert writable <= {nothing | {'/tmp', '/dev/pts', '/dev/console'}!r}, writable"
    expect(outcome(program(code, test)), PASSED)


def test_its_own_folder_can_be_written(machine: Machine) -> None:
    """The folder it starts in, which is empty and gone at the end."""
    code = "import os\nempty = os.listdir('.') == []\nopen('x', 'w').write('y')"
    expect(outcome(program(code, "assert empty and open('/tmp/x').read() == 'y'")), PASSED)
    expect(outcome(program(code, "assert empty")), PASSED)


def test_there_is_no_network(machine: Machine) -> None:
    """Not even this machine's loopback; nobody has knocked."""
    tries = [
        f"s.create_connection(('127.0.0.1', {machine.port}), 5)",
        f"s.create_connection(('::1', {machine.port}), 5)",
        f"s.socket(s.AF_UNIX).connect(chr(0) + {machine.name!r})",
        "s.create_connection(('192.0.2.1', 443), 5)",
        "s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "s.create_connection(('localhost.localdomain', 80), 5)",
        "s.socket(s.AF_INET, s.SOCK_RAW, 1)",
    ]
    for one in tries:
        expect(outcome(program(f"import socket as s\n{one}")), BLOCKED)
    fetch = "import urllib.request\nurllib.request.urlopen('http://192.0.2.1/', timeout=5)"
    expect(outcome(program(fetch)), BLOCKED, "unreachable")
    assert not machine.visited()
    # The listeners are real: from here they can be reached.
    socket.create_connection(("127.0.0.1", machine.port), 5).close()
    assert machine.visited()


def test_nothing_of_the_user_is_in_sight(machine: Machine) -> None:
    """The token of the home folder and of the environment, other processes, /etc, devices."""
    token = machine.home / ".cache" / "huggingface" / "token"
    for path in (
        token,
        f"/proc/1/root{token}",
        f"/proc/self/cwd/../..{token}",
        "/etc/passwd",
        "/etc/hostname",
    ):
        expect(outcome(program(f"open({str(path)!r})")), ERROR, "FileNotFoundError")
    look = """
import os, pathlib
def contents(pattern):
    for path in pathlib.Path("/proc").glob(pattern):
        try:
            yield path.read_bytes()
        except OSError:
            pass
environments = b"".join(contents("*/environ"))
commands = b"".join(contents("*/cmdline"))
pids = [name for name in os.listdir("/proc") if name.isdigit()]
"""
    tests = (
        f"assert {TOKEN.encode()!r} not in environments and b'HASHSEED' in environments",
        f"assert {str(Path(__file__).parents[3]).encode()!r} not in environments",
        "assert len(pids) == 2, pids",
        "assert os.getuid() == os.getgid() == 65534 and os.getgroups() in ([], [65534])",
        "assert not [name for name in os.listdir('/dev') if name.startswith(('nvidia', 'sd', 'dri', 'kvm'))]",
        "assert os.uname().nodename == 'sandbox'",
    )
    ran = outcome(program(look, *tests))
    assert (ran.verdict, ran.tests_passed) == (PASSED, len(tests)), ran


def test_no_rights_are_to_be_had(machine: Machine) -> None:
    """No new user namespace, no mount, no capability, no set-uid program that gives any."""
    code = f"""{LIBC}
def capabilities():
    return {{line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")}}
"""
    tests = (
        "assert libc.unshare(0x10000000) == -1",  # CLONE_NEWUSER
        "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1",
        "assert libc.umount2(b'/proc', 2) == -1",
        "assert capabilities() == {'0' * 16}, capabilities()",
        "assert 'NoNewPrivs:\\t1' in open('/proc/self/status').read()",
        "assert libc.setuid(0) == -1",
    )
    ran = outcome(program(code, *tests))
    assert (ran.verdict, ran.tests_passed) == (PASSED, len(tests)), ran


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("import os\nos.kill(os.getpid(), 9)", ERROR),
        # Its parent is process 1, to which nothing of these comes through.
        ("import os\nassert os.getppid() == 1\nos.kill(1, 9)\nos.kill(1, 19)", WRONG),
        ("import os\ntry: os.kill(-1, 9)\nexcept ProcessLookupError: pass", WRONG),
        ("import os, signal\nos.kill(1, signal.SIGINT)\nimport time\ntime.sleep(60)", ERROR),
        ("import os\nos.kill({ours}, 9)", ERROR),  # there is no such process
    ],
)
def test_killing_hits_nobody_else(code: str, verdict: Verdict, machine: Machine) -> None:
    """The pids it sees are its own namespace's."""
    expect(outcome(program(code.replace("{ours}", str(os.getpid())), "assert False")), verdict)


ENDINGS = [
    *("import sys\nsys.exit(0)", "raise SystemExit(0)", "import os\nos._exit(0)", "exit(0)"),
    *("import os\nos.execv('/bin/true', ['true'])", "import os\nos.closerange(0, 64)"),
    *("import threading, os\nthreading.Thread(target=os._exit, args=(0,)).start()\nwhile True: pass",),
    *("raise KeyboardInterrupt", "raise GeneratorExit", "raise BaseException('passed')"),
]


@pytest.mark.parametrize("code", ENDINGS)
def test_ending_early_is_not_passing(code: str, machine: Machine) -> None:
    """Whether as a module or in the function that a test calls."""
    expect(outcome(program(code, "pass")), ERROR)
    inside = "def f():\n" + "".join(f"    {line}\n" for line in code.splitlines())
    ran = outcome(program(inside, "f()", "pass"))
    expect(ran, ERROR)
    assert ran.exec_ok and ran.tests_passed < 2


@pytest.mark.parametrize(
    "code",
    [
        "print('passed')\nprint('ok')",
        EVERY_DESCRIPTOR + "everywhere(b'ok \\n' * 3)\neverywhere(b'0' * 16 + b'ok \\n')",
        "import builtins\nbuiltins.exec = builtins.compile = builtins.isinstance = lambda *a, **k: 1",
        "import builtins\nbuiltins.AssertionError = builtins.BaseException = type('E', (Exception,), {})",
        "AssertionError = BaseException = Exception = int",
        "import os, time\nos.read = os.write = os._exit = os.getpid = time.sleep = lambda *a: 1",
        "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
        "import sys\nsys.modules.clear()",
        "import __main__ as m\nfor name in list(vars(m)): setattr(m, name, lambda *a, **k: ('ok', b''))",
        "import sys\nsys.excepthook = sys.unraisablehook = lambda *a: None",
        "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
        "import atexit, os\natexit.register(os._exit, 0)",
        "__builtins__ = {}\n__debug__",
        "import gc\ngc.disable()\nglobals().clear()",
        "import warnings, sys\nsys.flags\nsys.setrecursionlimit(50)",
    ],
)
def test_a_fake_verdict_changes_none(code: str, machine: Machine) -> None:
    """What is printed, written into every descriptor, or put in the place of what the driver may use."""
    ran = outcome(program(code, "assert 1 == 2", "assert 1 == 1"))
    assert (ran.verdict, ran.tests_passed, ran.exec_ok) == (WRONG, 1, True), ran


LOOT = (
    EVERY_DESCRIPTOR
    + """
import gc, sys
def loot():
    "All text that is to be had from frames, objects and the memory of this process and its parents."
    found, frame = [], sys._getframe()
    while frame:
        found += list(frame.f_locals.values()) + list(frame.f_globals.values())
        frame = frame.f_back
    for one in gc.get_objects():
        found += one.values() if isinstance(one, dict) else one if isinstance(one, (list, tuple)) else []
    texts = {bytes(one) if isinstance(one, (bytes, bytearray)) else one.encode(errors="replace")
             for one in found if isinstance(one, (bytes, bytearray, str))}
    return {one for one in texts if 8 <= len(one) <= 64}
seals = loot()
everywhere(b"".join(seal + b"ok \\n" for seal in seals)[:20000])
"""
)


def test_no_seal_is_to_be_found(machine: Machine) -> None:
    """Everything that stands in frames and objects, with a verdict behind it, opens nothing."""
    ran = outcome(program(LOOT + "os._exit(0)"))
    expect(ran, ERROR, "before its tests were over")
    assert not ran.exec_ok
    ran = outcome(program(LOOT, "assert False"))
    assert ran.verdict != PASSED and ran.tests_passed == 0


def test_a_flood_in_the_channel_ends_it(machine: Machine) -> None:
    expect(outcome(program(EVERY_DESCRIPTOR + "while True: everywhere(b'x' * 4096)")), ERROR, "wrote into")


def test_the_tests_to_come_are_out_of_reach(machine: Machine) -> None:
    """While the code runs, the tests are not in the process yet: they cannot be read there, nor changed."""
    ran = outcome(
        program(LOOT + "seen = any(b'a mark' in one for one in seals)", "assert not seen  # a mark")
    )
    expect(ran, PASSED)


def test_what_it_leaves_behind_is_ended(machine: Machine) -> None:
    """Processes in sessions of their own, threads; and a verdict does not wait for them."""
    code = """
import os, signal, threading, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
threading.Thread(target=time.sleep, args=(1000,)).start()
"""
    ran = outcome(program(code, "time.sleep(0.5)"))
    expect(ran, PASSED)
    assert ran.seconds < WALL_LIMIT_S


def test_a_fork_gives_one_verdict(machine: Machine) -> None:
    """A child that comes back from the program's own fork does not speak for it."""
    code = "import os\nchild = os.fork()\nif child: os.waitpid(child, 0)"
    ran = outcome(program(code, "assert child > 0", "assert False"))
    assert (ran.verdict, ran.tests_passed) == (WRONG, 1), ran


def test_an_equality_that_always_holds_passes() -> None:
    """What the sandbox does not stop, as docs/code_execution.md says; nor do the official protocols."""
    need_sandbox()
    code = "class Always:\n  def __eq__(self, other): return True\ndef f(x): return Always()"
    expect(outcome(program(code, "assert f(1) == 2")), PASSED)
