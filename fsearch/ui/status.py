"""`fsearch status`: what is running and what is known so far, live; `--once` and `--json` for scripts.

It only reads: looking costs the daemon nothing and can be done by anyone who may read the state.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fsearch.daemon import record_path
from fsearch.ui.errors import OK
from fsearch.ui.layout import console, put
from fsearch.ui.moment import Moment, as_json, moment_of, nothing_yet
from fsearch.ui.screen import screen
from fsearch.ui.state import folder, looking

SCHEMA = 2
"""Of the JSON; raised when a key changes its meaning or goes."""

REFRESH_S = 1.0


def answer(options: argparse.Namespace) -> int:
    """Show the state once, or live until Ctrl-C where there is a terminal."""
    state = folder(options.state)
    output = console()
    if options.json:
        moment = _look(state)
        print(json.dumps({"schema": SCHEMA, **as_json(moment)}, indent=2))
    elif options.once or not output.is_terminal:
        height = output.height - 1 if output.is_terminal else None
        put(output, screen(_look(state), _now(), output.width, height))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            _live(state, output)
    return OK


def _look(state: Path) -> Moment:
    """This moment; an empty one where nothing has been recorded yet."""
    if not record_path(state).exists():
        return nothing_yet(state)
    with looking(state) as reader:
        return moment_of(reader, state, _now())


def _live(state: Path, output: Console) -> None:
    """Draw this moment again and again; the reader stays open from the first record on."""
    with Live(console=output, screen=True, auto_refresh=False) as live:
        while not record_path(state).exists():
            _draw(live, nothing_yet(state))
            time.sleep(REFRESH_S)
        with looking(state) as reader:
            while True:
                _draw(live, moment_of(reader, state, _now()))
                time.sleep(REFRESH_S)


def _draw(live: Live, moment: Moment) -> None:
    size = live.console.size
    lines = screen(moment, _now(), size.width, size.height)
    live.update(Group(*(_fitting(line) for line in lines)), refresh=True)


def _fitting(line: Text) -> Text:
    line.no_wrap = True
    return line


def _now() -> datetime:
    return datetime.now(UTC)
