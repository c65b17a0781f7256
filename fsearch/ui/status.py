"""`fsearch status`: what is running and what is known so far, live; `--once` and `--json` for scripts.

It only reads: looking costs the daemon nothing and can be done by anyone who may read the state.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fsearch.daemon import record_path
from fsearch.ui.errors import OK, STOPPED
from fsearch.ui.keys import Keys
from fsearch.ui.layout import console, put
from fsearch.ui.looking import Looking, pressed
from fsearch.ui.moment import Moment, Watch, as_json, moment_of, nothing_yet
from fsearch.ui.screen import screen
from fsearch.ui.state import folder, looking
from fsearch.ui.streams import mute

SCHEMA = 2
"""Of the JSON; raised when a key changes its meaning or goes."""

REFRESH_S = 1.0


def answer(options: argparse.Namespace) -> int:
    """Show the state once, or live until a key or a signal ends it where there is a terminal."""
    state = folder(options.state)
    output = console()
    if options.json:
        moment = _look(state)
        print(json.dumps({"schema": SCHEMA, **as_json(moment)}, indent=2))
    elif options.once or not output.is_terminal or output.is_dumb_terminal:
        height = output.height - 1 if output.is_terminal else None
        put(output, screen(_look(state), _now(), output.width, height))
    else:
        return _live(state, output)
    return OK


def _look(state: Path) -> Moment:
    """This moment; an empty one where nothing has been recorded yet."""
    if not record_path(state).exists():
        return nothing_yet(state)
    with looking(state) as reader:
        return moment_of(reader, state, _now())


def _live(state: Path, output: Console) -> int:
    """Draw one moment after another; gives 130 where a signal other than Ctrl-C ended it."""
    where: Looking | None = Looking()
    watch: Watch | None = None
    with ExitStack() as opened:
        while True:
            with Keys() as keys, Live(console=output, screen=True, auto_refresh=False) as live:
                due_s = 0.0
                while where is not None and keys.ending is None and not keys.suspending:
                    if time.monotonic() >= due_s:
                        due_s = time.monotonic() + REFRESH_S
                        if watch is None and record_path(state).exists():
                            watch = Watch(opened.enter_context(looking(state)), state)
                        moment = watch.moment(_now()) if watch else nothing_yet(state)
                    _draw(live, moment, where)
                    for key in keys.wait(max(0.0, due_s - time.monotonic())):
                        where = where and pressed(where, key, moment)
                if keys.ending is signal.SIGHUP:
                    mute()  # there is no terminal any more
            if where is None or keys.ending is not None:
                return OK if keys.ending in (None, signal.SIGINT) else STOPPED
            os.kill(os.getpid(), signal.SIGSTOP)  # the terminal is as it was; `fg` goes on here


def _draw(live: Live, moment: Moment, where: Looking) -> None:
    size = live.console.size
    lines = screen(moment, _now(), size.width, size.height, where)
    live.update(Group(*(_fitting(line) for line in lines)), refresh=True)


def _fitting(line: Text) -> Text:
    line.no_wrap = True
    return line


def _now() -> datetime:
    return datetime.now(UTC)
