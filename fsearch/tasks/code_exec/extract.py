"""The program in a model's answer."""

from __future__ import annotations

import re
from textwrap import dedent

_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)[^\n`]*\n"
    r"(?P<block>.*?)"
    r"(?:^[ \t]*(?P=mark)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = {"python", "python3", "py"}


def extract_code(text: str) -> str:
    """The first block that is fenced as Python, else the first fenced block, else the text itself.

    A fence is a line that begins with three or more backticks or tildes; one that is never closed reaches to
    the end, as in an answer that was cut. Line ends become \\n; empty lines around the program are left out,
    and of a fenced block its common indentation.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    blocks = list(_FENCE.finditer(text))
    chosen = next(
        (one for one in blocks if one["language"].lower() in _PYTHON), blocks[0] if blocks else None
    )
    code = dedent(chosen["block"]) if chosen else text
    return re.sub(r"\A(?:[ \t]*\n)+", "", code).rstrip()
