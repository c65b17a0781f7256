"""Programs against their tests: the verdicts; what is said where a level does not hold."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fsearch.tasks import code_exec
from fsearch.tasks.code_exec import Level, Program, Ran, SandboxFailed, Verdict, run_programs, self_test
from fsearch.tasks.code_exec.run import run
from fsearch.tasks.code_exec.sandbox import readable
from tests.alive import runs, wait_until_gone
from tests.tasks.code_exec.sandboxes import need_sandbox, program

LEVELS: tuple[Level, ...] = ("bwrap", "unsafe")

SQUARE = "def square(x):\n    return x * x\n"
CASES: dict[str, tuple[Program, Verdict, int, bool, str]] = {
    "right": (program(SQUARE, "assert square(2) == 4", "assert square(3) == 9"), Verdict.PASSED, 2, True, ""),
    "second wrong": (
        program(SQUARE, "assert square(2) == 4", "assert square(3) == 8, 'not 8'", "assert square(1) == 1"),
        *(Verdict.FAILED_ASSERTION, 2, True, "test 2: AssertionError: not 8"),
    ),
    "the first failure counts": (
        program(SQUARE, "square('a')", "assert square(1) == 2"),
        *(Verdict.ERROR, 0, True, "test 1: TypeError: can't multiply sequence by non-int of type 'str'"),
    ),
    "no such name": (
        program("x = y"),
        *(Verdict.ERROR, 0, False, "code: NameError: name 'y' is not defined"),
    ),
    "own assertion": (program("assert False"), Verdict.ERROR, 0, False, "code: AssertionError"),
    "not Python": (
        program("def f(:"),
        *(Verdict.SYNTAX_ERROR, 0, False, "code: SyntaxError: invalid syntax (<program>, line 1)"),
    ),
    "half a letter": (
        program("x = '\ud800'"),
        *(Verdict.SYNTAX_ERROR, 0, False, "code: UnicodeEncodeError: 'utf-8' codec can't encode"),
    ),
    "a zero byte": (program("x = 1\0"), Verdict.SYNTAX_ERROR, 0, False, "code: "),
    "syntax at run time": (program("exec('x =')"), Verdict.ERROR, 0, False, "code: SyntaxError"),
    "test not Python": (program("x = 1", "assert x =="), Verdict.ERROR, 0, True, "test 1: SyntaxError"),
    "setup after the code": (
        program("class Node: pass", "assert n", setup="n = Node()"),
        *(Verdict.PASSED, 1, True, ""),
    ),
    "setup fails": (program("x = 1", setup="Node()"), Verdict.ERROR, 0, True, "setup: NameError"),
    "state goes on": (
        program(
            "seen = []\ndef f(x): seen.append(x); return len(seen)", "assert f(1) == 1", "assert f(1) == 2"
        ),
        *(Verdict.PASSED, 2, True, ""),
    ),
    "ends in a test": (
        program("import os", "pass", "os._exit(0)", "pass"),
        *(Verdict.ERROR, 1, True, "it ended with exit status 0 before its tests were over"),
    ),
    "not a script": (
        program("if __name__ == '__main__':\n    raise SystemExit", "assert __name__ == 'program'"),
        *(Verdict.PASSED, 1, True, ""),
    ),
    "dataclasses and pickles": (
        program(
            "from __future__ import annotations\nimport copy, dataclasses, pickle, typing\n"
            "@dataclasses.dataclass\nclass P:\n  x: int\n  y: typing.ClassVar[int] = 1",
            "assert pickle.loads(pickle.dumps(P(1))) == copy.deepcopy(P(1))",
            "assert P.__annotations__['x'] == 'int'",
            "x: unknown_name = 1",  # annotations are those of the test, where they are evaluated
        ),
        *(Verdict.ERROR, 2, True, "test 3: NameError: name 'unknown_name' is not defined"),
    ),
    "input is empty": (program("x = input()"), Verdict.ERROR, 0, False, "code: EOFError"),
    "an address": (
        program("class A: pass\nraise ValueError(A())"),
        *(Verdict.ERROR, 0, False, "code: ValueError: <program.A object at 0x...>"),
    ),
    "lines and colours": (
        program("raise ValueError('\\x1b[31ma\\n\\nb\\x00')"),
        *(Verdict.ERROR, 0, False, "code: ValueError: a b"),
    ),
    "no words": (
        program("class E(Exception):\n  def __str__(self): raise self\nraise E"),
        *(Verdict.ERROR, 0, False, "code: an exception that cannot be put into words"),
    ),
    "only the standard library": (program("import pytest"), Verdict.ERROR, 0, False, "code: ModuleNotFound"),
}


@pytest.mark.parametrize("level", LEVELS)
def test_verdicts(level: Level) -> None:
    """Each kind of program at both levels: verdict, tests passed, whether the code ran, the reason."""
    if level == "bwrap":
        need_sandbox()
    for name, ran in zip(
        CASES, run_programs([case[0] for case in CASES.values()], level, workers=2), strict=True
    ):
        case, verdict, passed, exec_ok, reason = CASES[name]
        found = (ran.verdict, ran.tests_passed, ran.tests, ran.exec_ok)
        assert found == (verdict, passed, len(case.tests), exec_ok), (name, ran)
        assert ran.reason.startswith(reason) and bool(ran.reason) == (verdict != Verdict.PASSED), (name, ran)


def timeless(found: list[Ran]) -> list[Ran]:
    return [replace(ran, seconds=0.0) for ran in found]


def test_workers_and_order_change_nothing() -> None:
    """The same programs one by one, four at a time, in the reverse order; the order of sets too."""
    need_sandbox()
    programs = [case[0] for case in CASES.values()]
    programs.append(program("raise ValueError({'alpha', 'beta', 'gamma', 'delta', 'epsilon'}, hash('x'))"))
    first = timeless(run_programs(programs, "bwrap", workers=1))
    assert timeless(run_programs(programs, "bwrap", workers=4)) == first
    assert timeless(run_programs(programs[::-1], "bwrap")) == first[::-1]
    assert run_programs([], "bwrap") == []


def test_a_program_without_tests_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one test"):
        Program("x = 1", "", ())


def test_blocked_is_the_sandbox_s_doing_alone() -> None:
    """An access that is refused, also where the program words it anew; at `unsafe` nothing is blocked."""
    need_sandbox()
    anew = "try:\n  open('/usr/x', 'w')\nexcept OSError as error:\n  raise ValueError('no') from error"
    handled = "try:\n  open('/usr/x', 'w')\nexcept OSError:\n  pass"
    assert run(program(anew), "bwrap").verdict == Verdict.BLOCKED
    assert run(program(handled), "bwrap").verdict == Verdict.PASSED
    assert run(program(handled, "assert False"), "bwrap").verdict == Verdict.FAILED_ASSERTION
    assert run(program("raise PermissionError(13, 'no')"), "bwrap").verdict == Verdict.BLOCKED
    assert run(program("raise PermissionError(13, 'no')"), "unsafe").verdict == Verdict.ERROR


def test_reasons_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """`unsafe` may see the token; what it says of it stays out of the record."""
    monkeypatch.setenv("HF_TOKEN", "a-token-of-mine")
    assert readable("ValueError: a-token-of-mine") == "ValueError: [token]"


def test_unsafe_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, its children in the background, and what would not end are gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = "import os, time\nif os.fork() == 0: time.sleep(1000)\nopen('x', 'w')"
    assert run(program(child), "unsafe").verdict == Verdict.PASSED
    assert run(program(child + "\nwhile True: pass"), "unsafe", 0.5).verdict == Verdict.TIMEOUT
    assert run(program("x = [0] * 10**9"), "unsafe").reason == "code: MemoryError"
    assert list(tmp_path.iterdir()) == []
    left = [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if str(tmp_path) in _folder(pid)
    ]
    assert wait_until_gone(left) == []


def _folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


@pytest.mark.parametrize("level", LEVELS)
def test_programs_die_with_the_process_that_runs_them(level: Level) -> None:
    """kill -9 of it, in the middle."""
    if level == "bwrap":
        need_sandbox()
    code = (
        "from fsearch.tasks.code_exec import Program, run_programs\n"
        f"run_programs([Program('import time; time.sleep(1000)', '', ('pass',))] * 2, {level!r}, workers=2)"
    )
    host = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while len(started := _drivers(host.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(started) >= 2
        everyone = _everyone_below(host.pid)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
    assert wait_until_gone(everyone) == []


def _drivers(pid: int) -> list[int]:
    """The processes below `pid` that run a program by now."""
    return [one for one in _everyone_below(pid) if "driver.py" in _command(one) and runs(one)]


def _everyone_below(pid: int) -> list[int]:
    """Of every thread: the children of a process that a thread started are listed under that thread."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(one) for one in task.read_text().split()]
    return found + [below for one in found for below in _everyone_below(one)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.long
@pytest.mark.parametrize("level", LEVELS)
def test_the_limit_of_processor_time(level: Level) -> None:
    """The kernel's own, which does not depend on how busy the machine is."""
    if level == "bwrap":
        need_sandbox()
    ran = run(program("while True: pass"), level, 300)
    assert ran.verdict == Verdict.TIMEOUT and ran.seconds < 300, ran
    assert ran.reason == "it took more than 10 s of processor time or 300 s on the clock"
    stubborn = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert run(program(stubborn), level, 300).verdict == Verdict.TIMEOUT


def bwrap_that(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a bwrap of this text first on the PATH."""
    file = folder / "bwrap"
    file.write_text(script)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert self_test("bwrap").startswith("bubblewrap is not installed: there is no bwrap on the PATH")


def test_where_namespaces_are_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What bwrap says stands in the sentence, and is never taken for a program that failed."""
    said = "bwrap: No permissions to create new namespace, likely because the kernel does not allow it"
    bwrap_that(tmp_path, monkeypatch, f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    assert self_test("bwrap") == f"The sandbox does not come up: {said}."
    with pytest.raises(SandboxFailed, match="No permissions"):
        run_programs([program("x = 1")], "bwrap")


HOLES = {
    "network": "argv.insert(argv.index('--unshare-all') + 1, '--share-net')",
    "home folder": "add('--ro-bind', HOME)",
    "temporary files": "add('--ro-bind', TEMPORARY)",
    "opening /fsearch-self-test to write": "leave_out('--remount-ro', '/')",
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_sandbox_with_a_hole_is_not_used(
    hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bwrap with something left open: the self-test sees it."""
    need_sandbox()
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine").write_text("")
    monkeypatch.setenv("HOME", str(home))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    script = f"""#!{sys.executable} -S
import os, sys
HOME, TEMPORARY, argv = {str(home)!r}, {str(temporary)!r}, sys.argv[1:]
def add(how, path):
    parents = [path[:place] for place, letter in enumerate(path) if letter == "/"][1:]
    words = [word for parent in parents for word in ("--perms", "0755", "--dir", parent)]
    for mark in ("setpriv", "--remount-ro"):  # of the bwrap of root's, if there is one, and of the sandbox
        if mark in argv:
            argv[argv.index(mark) : argv.index(mark)] = [*words, how, path, path]
def leave_out(*words):
    place = next(i for i in range(len(argv)) if tuple(argv[i : i + len(words)]) == words)
    del argv[place : place + len(words)]
{HOLES[hole]}
os.execv({shutil.which("bwrap")!r}, ["bwrap", *argv])
"""
    bwrap_that(tmp_path, monkeypatch, script)
    why = self_test("bwrap")
    assert why.startswith("The level bwrap does not hold: ") and hole in why


def test_a_bwrap_that_is_none_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that starts the driver and shuts nothing off."""
    script = (
        f"#!/bin/sh\nexec {sys.executable} -P -s -S -B {Path(code_exec.__file__).with_name('driver.py')}\n"
    )
    bwrap_that(tmp_path, monkeypatch, script)
    assert self_test("bwrap").startswith("The level bwrap does not hold: a look ")


def test_both_levels_hold_here() -> None:
    need_sandbox()
    assert [self_test(level) for level in LEVELS] == ["", ""]
