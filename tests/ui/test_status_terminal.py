"""The real `fsearch status`: on a terminal with keys and a size, in a pipe, without colour.

The terminal is a pseudo-terminal of the standard library; what is drawn on it is put together by `Page`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.commands import ROOT, fsearch
from tests.ui.record import fill, the_plan

LIMIT_S = 60.0
"""Only a guard against waiting for ever."""

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
"""Begin and end of the alternate screen."""

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
"""Of the cursor."""


class Terminal:
    """`fsearch status` on a pseudo-terminal that a test types on and reads."""

    def __init__(self, state: Path, *, rows: int = 24, columns: int = 80, **environment: str) -> None:
        self.outer, self.inner = pty.openpty()
        self.size(rows, columns)
        self.settings = self.attributes()
        self.written = ""
        unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fsearch", "status", "--state", str(state)],
            stdin=self.inner,
            stdout=self.inner,
            stderr=self.inner,
            env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment},
            cwd=state.parent,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def attributes(self) -> list[Any]:
        return termios.tcgetattr(self.inner)

    def type(self, keys: str) -> None:
        """Press keys; what was drawn before them is forgotten."""
        self.read()
        self.written = ""
        os.write(self.outer, keys.encode())

    def until(self, found: Callable[[str], object]) -> str:
        """The text drawn since the last key, once it is what is looked for."""
        deadline = time.monotonic() + LIMIT_S
        while not found(plain := re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written)):
            assert time.monotonic() < deadline, plain
            self.read(0.1)
        return plain

    def read(self, wait_s: float = 0.0) -> None:
        with contextlib.suppress(OSError):
            while select.select([self.outer], [], [], wait_s)[0]:
                self.written += os.read(self.outer, 65536).decode()
                wait_s = 0.0

    def ended(self) -> int:
        """The exit code, after all that was written was read."""
        deadline = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.written
            self.read(0.05)
        self.read()
        return self.process.returncode

    def assert_restored(self) -> None:
        """The terminal is as it was: settings, screen, cursor."""
        assert self.attributes() == self.settings
        assert self.written.rindex(LEAVE) > self.written.rfind(ENTER)
        assert self.written.rindex(SHOW) > self.written.rfind(HIDE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.inner)
        os.close(self.outer)


@pytest.fixture
def opened(live: Path) -> Iterator[Terminal]:
    """A status of a running plan, drawn once."""
    terminal = Terminal(live)
    terminal.until(lambda text: "> kv_recall q_after" in text and "q quit" in text)
    yield terminal
    terminal.close()


def test_keys(opened: Terminal) -> None:
    """Down and j open the next task, up and k the one before, f what failed, ? the keys; Escape goes back."""
    assert ENTER in opened.written and HIDE in opened.written
    assert not opened.attributes()[3] & (termios.ICANON | termios.ECHO)
    opened.type("j")
    opened.until(lambda text: "> kv_recall q_first" in text)
    opened.type("\x1b[B")
    opened.until(lambda text: "> sudoku" in text)
    opened.type("k\x1b[Ak")
    opened.until(lambda text: "> infill" in text)
    opened.type("f")
    assert "nan" in opened.until(lambda text: "3 attempts failed" in text)
    opened.type("?")
    opened.until(lambda text: "leave; the search goes on" in text)
    opened.type("\x1b")
    opened.until(lambda text: "> infill" in text)
    opened.type("\x1b")
    opened.until(lambda text: "> kv_recall q_after" in text)
    opened.type("\x1b[15~x")  # keys that mean nothing
    opened.type("q")
    assert opened.ended() == 0
    opened.assert_restored()


def test_a_larger_terminal_is_filled(opened: Terminal) -> None:
    """After a change of size the screen is drawn for the new one at once."""
    opened.type("")
    opened.size(50, 160)
    text = opened.until(lambda text: "seeds" in text and text.count("d_acc, pp") == 2)
    assert max(map(len, text.replace("\r", "").split("\n"))) == 160


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 0), (signal.SIGHUP, 130)]
)
def test_a_signal_ends_it_in_order(opened: Terminal, number: signal.Signals, code: int) -> None:
    """Ctrl-C, SIGTERM and a hangup: the terminal is left as it was found."""
    opened.process.send_signal(number)
    assert opened.ended() == code
    if number == signal.SIGHUP:  # nobody is there to see the screen
        assert opened.attributes() == opened.settings
    else:
        opened.assert_restored()
    assert "Traceback" not in opened.written


def test_control_z_gives_the_terminal_back(opened: Terminal) -> None:
    """Stopped by the key, it leaves the terminal as it was; continued, it draws again."""
    os.write(opened.outer, b"\x1a")
    deadline = time.monotonic() + LIMIT_S
    while "T" not in Path(f"/proc/{opened.process.pid}/stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < deadline
        opened.read(0.05)
    opened.read()
    opened.assert_restored()
    opened.written = ""
    opened.process.send_signal(signal.SIGCONT)
    opened.until(lambda text: "> kv_recall q_after" in text)
    assert ENTER in opened.written and not opened.attributes()[3] & termios.ICANON
    opened.type("q")
    assert opened.ended() == 0
    opened.assert_restored()


def test_an_error_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    """A record that is damaged while it is looked at: the sentence is read on an ordinary screen."""
    state = tmp_path / "state"
    fill(state, the_plan(), stop_after=9)
    terminal = Terminal(state)
    try:
        terminal.until(lambda text: "q quit" in text)
        (state / "fsearch.db").unlink()
        (state / "fsearch.db").write_bytes(b"no record " * 1000)
        assert terminal.ended() == 3
        terminal.assert_restored()
        after = terminal.written[terminal.written.rindex(LEAVE) :]
        assert "fsearch.db" in after and "Traceback" not in after
    finally:
        terminal.close()


def test_a_record_that_comes_later_is_found(tmp_path: Path) -> None:
    """A status that is opened first shows the run as soon as there is one."""
    terminal = Terminal(tmp_path / "state")
    try:
        terminal.until(lambda text: "Nothing has run here yet" in text)
        fill(tmp_path / "state", the_plan(), stop_after=9)
        terminal.until(lambda text: "to go on" in text)
        terminal.type("q")
        assert terminal.ended() == 0
    finally:
        terminal.close()


def colours(written: str) -> set[int]:
    """The codes of colours in what was drawn."""
    styles = {
        int(part or 0) for found in re.findall(r"\x1b\[([0-9;]*)m", written) for part in found.split(";")
    }
    return {style for style in styles if 30 <= style <= 49 or 90 <= style <= 107}


def test_no_color(live: Path, opened: Terminal) -> None:
    """NO_COLOR is heeded on the live screen."""
    terminal = Terminal(live, NO_COLOR="1")
    try:
        terminal.until(lambda text: "q quit" in text)
        terminal.type("j")
        terminal.until(lambda text: "> kv_recall q_first" in text)
    finally:
        terminal.close()
    assert colours(opened.written) and not colours(terminal.written)


def test_a_dumb_terminal_gets_it_once(live: Path) -> None:
    """Where a screen cannot be drawn over, the lines are printed once."""
    terminal = Terminal(live, TERM="dumb")
    try:
        assert terminal.ended() == 0
        assert "\x1b" not in terminal.written and "kv_recall q_after" in terminal.written
    finally:
        terminal.close()


def test_a_pipe_gets_one_plain_screen(live: Path) -> None:
    """No colour, no control codes, no keys: the whole board once, in 80 columns."""
    done = fsearch("status", "--state", live, cwd=live.parent)
    assert done.returncode == 0 and "\x1b" not in done.stdout and done.stdout.count("d_acc, pp") == 2
    assert max(map(len, done.stdout.splitlines())) <= 80 and "q quit" not in done.stdout
