"""`fsearch bench`: how fast the parts are here. Each subject has a module of its own."""

from __future__ import annotations

import argparse
import importlib

from fsearch.ui.errors import OK


def answer(options: argparse.Namespace) -> int:
    """Measure the subject; without one, print the help. Gives the exit code."""
    if options.subject is None:
        options.show_help()
        return OK
    code: int = importlib.import_module(f"fsearch.ui.bench_{options.subject}").answer(options)
    return code
