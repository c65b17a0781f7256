"""What must not stand in a record, a log or a sentence: access tokens, and passwords in addresses.

Nothing of ours writes them down; but an error of a library may quote a server's answer, and a server may send
back what it was sent.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"]+:[^\s/@'\"]*(?=@)")
_SHORTEST = 8  # a shorter word is no secret, and stands in too many sentences


def without_secrets(text: str) -> str:
    """`text` with every token that is known here, and whatever looks like one, taken out."""
    for token in _known_tokens():
        text = text.replace(token, "[token]")
    return _USER_IN_ADDRESS.sub("[user and password]", _TOKEN.sub("[token]", text))


def environment_without_secrets() -> dict[str, str]:
    """The environment for a program that is not ours."""
    return {name: value for name, value in os.environ.items() if name not in _VARIABLES}


def _known_tokens() -> list[str]:
    found = [os.environ.get(name, "") for name in _VARIABLES]
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    with suppress(OSError, UnicodeDecodeError):  # nobody has logged in here
        found.append(Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser().read_text())
    return [token.strip() for token in found if len(token.strip()) >= _SHORTEST]
