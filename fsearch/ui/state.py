"""Where the record is: --state, else $FSEARCH_STATE, else ./state; and opening it to look.

A wrong or missing record becomes a sentence with exit code 3. Writing is the daemon's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsearch.daemon import record_path
from fsearch.store import Reader, StoreCorrupt, StoreError, StoreLocked, StoreMissing, open_reader
from fsearch.store.backup import going_on
from fsearch.ui.errors import BUSY, STATE, UserError


def folder(option: str | None) -> Path:
    """The state folder that a command means; it need not exist."""
    return Path(option or os.environ.get("FSEARCH_STATE") or "state").absolute()


def shown(place: Path) -> str:
    """A path as a person would type it here."""
    here = Path.cwd()
    return f"./{place.relative_to(here)}" if place.is_relative_to(here) and place != here else str(place)


@contextmanager
def looking(state: Path) -> Iterator[Reader]:
    """A reader of the state's record.

    Raises UserError where there is none, or none that can be read, also later while reading.
    """
    with speaking(state), open_reader(record_path(state)) as reader:
        yield reader


@contextmanager
def speaking(state: Path) -> Iterator[None]:
    """Turn the store's refusals inside the block into a UserError."""
    try:
        yield
    except StoreMissing as error:
        sentence = f"There is no record in {shown(state)} yet. `fsearch run plans/demo.yaml` begins one."
        raise UserError(sentence, STATE) from error
    except StoreCorrupt as error:
        raise UserError(f"{error}\n{going_on(record_path(state))}", STATE) from error
    except StoreError as error:
        raise UserError(str(error), BUSY if isinstance(error, StoreLocked) else STATE) from error
