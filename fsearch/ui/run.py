"""`fsearch run PLAN...`: take plans to their end in the foreground, then show what was found."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fsearch import daemon
from fsearch.ui.completions import UNSAFE
from fsearch.ui.counts import NOTHING
from fsearch.ui.errors import BUSY, FAILED, STATE, STOPPED, UserError
from fsearch.ui.layout import console, paragraph, put
from fsearch.ui.plans import PlanFile, read_runnable
from fsearch.ui.progress import Lines
from fsearch.ui.report import lines as report_lines
from fsearch.ui.state import folder, looking, shown, speaking
from fsearch.ui.view import Snapshot
from fsearch.ui.words import duration


def answer(options: argparse.Namespace) -> int:
    """Run the plans; gives 0 when every search ended, 75 if some waited in vain, 130 when stopped."""
    files = [read_runnable(name) for name in options.plans]
    _refuse_repeats(files)
    place = _place(options)
    state = folder(options.state)
    _make(state)
    screen = console()
    put(screen, [Text(f"state {shown(state)}, training on the {place}", "dim")])
    for file in files:
        where = f"{file.path} (packaged with fsearch)" if file.packaged else str(file.path)
        put(screen, [Text.assemble((file.plan.name, "bold"), (f"  {where}", "dim"))])
        if any(entry.evaluate.code_exec == "unsafe" for entry in file.plan.entries):
            put(screen, paragraph(UNSAFE, screen.width, style="bold red"))
    listener = Lines([file.plan for file in files], screen)
    try:
        with speaking(state):
            code = daemon.run([file.plan for file in files], state, place, options.threads, listener)
    except daemon.LockHeld as held:
        raise UserError(f"{_sentence(held)} Wait for it, or end it.", BUSY) from held
    except (daemon.ZygoteDied, daemon.ClusterUnusable) as died:
        raise UserError(_sentence(died), FAILED) from died
    finally:
        listener.close()
    try:
        _show_end(files, state, screen, options, code)
    except UserError as unreadable:  # as after a stop while the disk is full
        if code != STOPPED:
            raise
        put(screen, [Text(), *paragraph(f"Stopped. {unreadable}", screen.width, indent=0)])
    return code


def _place(options: argparse.Namespace) -> daemon.Device | daemon.RayCluster:
    if options.on is not None:
        return daemon.RayCluster(options.on, options.device.partition(":")[0])
    try:
        return daemon.find_device(options.device)
    except daemon.NoDevice as missing:
        raise UserError(str(missing)) from missing


def _refuse_repeats(files: list[PlanFile]) -> None:
    first: dict[str, Path] = {}
    for file in files:
        if file.plan.id in first:
            raise UserError(f"{file.path} asks for the same as {first[file.plan.id]}; give it once.")
        first[file.plan.id] = file.path


def _make(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sentence = f"The state folder {shown(state)} cannot be made ({error.strerror}). Give another --state."
        raise UserError(sentence, STATE) from error
    if not os.access(state, os.W_OK | os.X_OK):
        sentence = f"The state folder {shown(state)} may not be written by this user. Give another --state."
        raise UserError(sentence, STATE)


def _show_end(
    files: list[PlanFile], state: Path, screen: Console, options: argparse.Namespace, code: int
) -> None:
    with looking(state) as reader:
        snapshot = Snapshot(reader, [file.plan for file in files])
        views = [snapshot.view(file.plan, reader.example_values) for file in files]
    where = f" --state {shlex.quote(options.state)}" if options.state else ""
    names = " ".join(shlex.quote(name) for name in options.plans)
    if code == STOPPED:
        counts = sum((search.count for view in views for search in view.searches), NOTHING)
        done = f"Stopped. {counts.done} of about {counts.expected} attempts are done and kept."
        put(screen, [Text(), *paragraph(f"{done} Go on with:", screen.width, indent=0)])
        put(screen, [_command(f"run {names}{where}")])
        return
    put(screen, [Text(), *report_lines(views, screen.width), Text()])
    undone = sum(bool(search.failed) for view in views for search in view.searches)
    failed = sum(len(view.failures) for view in views)
    ended = "Every search has ended"
    ended += f"; {undone} could not be done" if undone else ""
    ended += f"; {failed} attempt{'s' * (failed > 1)} failed." if failed else "."
    put(screen, paragraph(f"{ended} All of it, for scripts:", screen.width, indent=0))
    put(screen, [_command(f"export{' ' + names if len(files) == 1 else ''}{where}")])
    if code == BUSY:
        found = (search.outage for view in views for search in view.searches)
        waited = {outage.what: duration(outage.waited_s) for outage in found if outage}
        what = ", ".join(f"{name} ({time})" for name, time in waited.items())
        sentence = f"Waited in vain, as long as limits.wait_network says, for {what}."
        put(screen, paragraph(f"{sentence} When there is a network, go on with:", screen.width, indent=0))
        put(screen, [_command(f"run {names}{where}")])


def _command(text: str) -> Text:
    return Text.assemble("  fsearch ", (text, "bold"))


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
