"""One process under bubblewrap, or under resource limits alone, that runs a program step by step."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from fsearch.system.plain import plain
from fsearch.system.process import kill_group
from fsearch.system.secrets import without_secrets
from fsearch.tasks.code_exec import driver
from fsearch.tasks.code_exec.program import Level, Verdict

START_LIMIT_S = 60.0
"""For the interpreter to come up; longer, and the machine is at fault, not the program."""

TMP_MIB = 64
_ANSWER_BYTES = 65536  # more than an answer has; whoever sends more is not the driver
_DRIVER = Path(driver.__file__).resolve()
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    "HOME": "/tmp",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}
"""All that a program sees of it. With a hash seed of its own each time, sets would have another order."""

_NOBODY = "65534"
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")  # of an object, another one each time


class SandboxFailed(RuntimeError):
    """A sandbox did not come up: this machine's doing, and nothing about a program."""


@dataclass
class Ended(Exception):
    """The process gives no answer any more."""

    verdict: Verdict
    reason: str


class Sandbox:
    """A process that waits for steps, as a context: at the end nothing that it started is left.

    `wall_limit_s` is for all steps together. Raises SandboxFailed.
    """

    def __init__(self, level: Level, wall_limit_s: float) -> None:
        self._level = level
        self._wall_limit_s = wall_limit_s

    def __enter__(self) -> Sandbox:
        self._at_end = ExitStack()
        folder = "/"
        if self._level == "unsafe":
            own = tempfile.TemporaryDirectory(prefix="fsearch-", ignore_cleanup_errors=True)
            folder = self._at_end.enter_context(own)
        self._channel, theirs = socket.socketpair()
        self._at_end.callback(self._channel.close)
        try:
            self._process = subprocess.Popen(
                command(self._level),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            self._at_end.close()
            raise SandboxFailed(f"The sandbox cannot be started: {error}.") from error
        finally:
            theirs.close()
        self._start(START_LIMIT_S)
        try:
            self.step("")
        except Ended as ended:
            why = self._complaint() or ended.reason
            self.__exit__(None, None, None)
            raise SandboxFailed(f"The sandbox does not come up: {why}.") from ended
        self._start(self._wall_limit_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._level == "unsafe":
            kill_group(self._process.pid)
        self._process.kill()  # and with bwrap its PID namespace
        self._process.wait()
        assert self._process.stderr
        self._process.stderr.close()
        self._at_end.close()

    @property
    def seconds(self) -> float:
        """Since the first step could begin."""
        return time.monotonic() - self._started_s

    def step(self, source: str) -> tuple[str, str]:
        """Run a source; a word of `driver.WORDS` and, unless that is "ok", what happened. Raises Ended."""
        # A seal is good for one step, and is read by the driver once the source has run.
        seal = secrets.token_hex(driver.SEAL_BYTES // 2).encode()
        data = source.encode("utf-8", "surrogatepass")
        try:
            self._channel.settimeout(self._left_s())
            self._channel.sendall(len(data).to_bytes(4, "big") + data + seal)
            return self._answer(seal)
        except TimeoutError:
            raise self._too_long() from None
        except ConnectionError:
            raise self._death() from None

    def _start(self, limit_s: float) -> None:
        self._started_s, self._limit_s = time.monotonic(), limit_s

    def _left_s(self) -> float:
        if (left_s := self._limit_s - self.seconds) <= 0:
            raise TimeoutError
        return left_s

    def _answer(self, seal: bytes) -> tuple[str, str]:
        """What stands after the seal; what a program itself has written into the channel is passed over."""
        received = b""
        while len(received) < _ANSWER_BYTES:
            _, found, rest = received.partition(seal)
            if found and b"\n" in rest:
                word, _, reason = rest.partition(b"\n")[0].decode("utf-8", "replace").partition(" ")
                if word in driver.WORDS:
                    return word, readable(reason)
                break
            self._channel.settimeout(self._left_s())
            more = self._channel.recv(_ANSWER_BYTES)
            if not more:
                raise self._death()
            received += more
        raise Ended(Verdict.ERROR, "it wrote into the channel over which results come")

    def _death(self) -> Ended:
        """Why there is nothing at the other end."""
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Ended(Verdict.ERROR, "it closed the channel over which results come")
        number = -status if status < 0 else status - 128
        if number == signal.SIGXCPU or (number == signal.SIGKILL and self.seconds >= driver.CPU_LIMIT_S):
            return self._too_long()
        if number in set(signal.Signals):
            return Ended(Verdict.ERROR, f"ended by {signal.Signals(number).name}")
        ended = f"it ended with exit status {status} before its tests were over"
        return Ended(Verdict.ERROR, driver.TOO_MUCH.get(status, ended))

    def _too_long(self) -> Ended:
        # Which of the two it was depends on what else the machine does; the record says the same either way.
        limits = f"{driver.CPU_LIMIT_S} s of processor time or {self._limit_s:g} s on the clock"
        return Ended(Verdict.TIMEOUT, f"it took more than {limits}")

    def _complaint(self) -> str:
        """The last line that bwrap or the interpreter printed."""
        assert self._process.stderr
        fd = self._process.stderr.fileno()
        os.set_blocking(fd, False)
        try:
            lines = os.read(fd, 4096).decode("utf-8", "replace").split("\n")
        except BlockingIOError:
            return ""
        return readable(next((line for line in reversed(lines) if line.strip()), "")).rstrip(".")


def readable(reason: str) -> str:
    """One line for a person and for the record: no secret, no control character, no address of an object."""
    return _ADDRESS.sub("0x...", without_secrets(" ".join(plain(reason).split())))


def command(level: Level) -> list[str]:
    """The words that start the driver at a level."""
    # Not -I: it would ignore PYTHONHASHSEED, and the rest of the environment is ours anyway.
    flags = ["-P", "-s", "-S", "-B"]
    first = ["choom", "--adjust", "1000", "--"]  # if the machine runs out of memory, this is killed first
    if level == "unsafe":
        return [*first, "setpriv", "--pdeathsig", "KILL", _interpreter(), *flags, str(_DRIVER)]
    bwrap, source = shutil.which("bwrap") or "bwrap", str(_DRIVER)
    if os.geteuid() == 0:
        # A user namespace of root's is made by root: the kernel counts no processes of its, and lets it write
        # what root owns. So another user makes it, who is first shown what root alone may be able to read.
        first += [bwrap, "--unshare-pid", "--die-with-parent", *_shown(), "--ro-bind", source, "/driver.py"]
        first += ["--bind", "/proc", "/proc", "--dev-bind", "/dev", "/dev", "--tmpfs", "/tmp"]
        first += ["setpriv", "--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups", "--pdeathsig", "KILL"]
        bwrap, source = "bwrap", "/driver.py"
    return [
        *first,
        bwrap,
        *("--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY, "--disable-userns"),
        *("--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"),
        *_shown(),
        *("--ro-bind", source, "/driver.py"),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", str(TMP_MIB * 2**20), "--tmpfs", "/tmp", "--chdir", "/tmp"),
        *("--remount-ro", "/dev", "--remount-ro", "/"),  # both are file systems in memory without a limit
        *("--remount-ro", "/proc"),  # nor is anything to be written there
        *(_interpreter(), *flags, "/driver.py", "watch"),
    ]


def _interpreter() -> str:
    """This Python, not that of a virtual environment, whose packages are of no use without `site`."""
    return str(Path(sys.base_exec_prefix).resolve() / "bin" / f"python3.{sys.version_info.minor}")


def shown_folders() -> list[Path]:
    """What of this machine a program sees, to be read: /usr, the loader's folders, the interpreter's own."""
    system = [Path("/usr"), *map(Path, ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"))]
    own = {Path(prefix).resolve() for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    return [
        *(folder for folder in system if folder.is_dir()),
        *(folder for folder in sorted(own) if not folder.is_relative_to("/usr")),
    ]


def _shown() -> list[str]:
    """bwrap's words for `shown_folders`; /bin and the like are links into /usr on most systems."""
    words = []
    for folder in shown_folders():
        if folder.is_symlink():
            words += ["--symlink", os.readlink(folder), str(folder)]
        else:
            for parent in [*folder.parents][-2::-1]:  # without this, /root would be closed here too
                words += ["--perms", "0755", "--dir", str(parent)]
            words += ["--ro-bind", str(folder), str(folder)]
    return words
