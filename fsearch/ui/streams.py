"""What to do when nobody reads the output any more."""

from __future__ import annotations

import os
import sys


def mute() -> None:
    """Let all further output go nowhere: its reader has gone (a closed pipe, a closed terminal)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
