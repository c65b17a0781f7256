"""Text of a program that we show to a person: its letters, without what it would do to a terminal."""

from __future__ import annotations

import re

_COMMANDS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b[\]PX^_].*?(\x07|\x1b\\|$)"  # titles and other strings
    r"|\x1b."
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def plain(text: str) -> str:
    """`text` without terminal commands and control characters; line ends and tabs stay."""
    return _COMMANDS.sub("", text)
