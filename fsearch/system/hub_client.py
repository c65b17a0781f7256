"""The client of the Hugging Face Hub, set up so that a process that waits for it can be watched.

It asks the hub for what is wanted and for nothing else, never waits long for one byte, gives a busy hub's
wish to be left alone on to whoever schedules, and says how much has arrived.

Deliberately not here: what is downloaded, and what follows from an error.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

SWITCHES = {
    "HF_HUB_DISABLE_XET": "1",  # its bytes come in by a library of its own, where nobody can count them
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
"""Environment variables that the client and `datasets` read when they are imported."""

LONGEST_SILENCE_S = 30.0
"""How long the client waits for one byte. It asks for no limit where it lists the files of a repository."""

_LEFT_AFTER_S = 3600.0
_BUSY = frozenset({429, 503})
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")  # of a header such as `ratelimit: "api";r=0;t=55`


class HubBusy(Exception):
    """The hub answered that it is not to be asked for a while; the client would sleep for all of it."""

    def __init__(self, url: str, status: int, retry_after_s: float) -> None:
        super().__init__(
            f"{url}: the hub answers {status} and asks for {retry_after_s:.0f} s without requests"
        )
        self.status = status
        self.retry_after_s = retry_after_s


class _Arrivals:
    """Bytes of answers, the last of which may still be coming in."""

    def __init__(self) -> None:
        self.finished = 0
        self.last: Any = None

    def begin(self, response: Any) -> None:
        if self.last is not None:
            self.finished += self.last.num_bytes_downloaded
        self.last = response

    @property
    def total(self) -> int:
        return self.finished + (0 if self.last is None else self.last.num_bytes_downloaded)


_arrivals = _Arrivals()


def set_up() -> None:
    """To be called before `huggingface_hub` or `datasets` is imported, and before anything is asked."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    from huggingface_hub import get_session, set_client_factory

    usual: Any = get_session()
    if _look_at in usual.event_hooks["response"]:
        return
    kind, asking = type(usual), usual.event_hooks["request"]

    def client() -> Any:
        hooks = {"request": [*asking, _limit], "response": [_look_at]}
        return kind(event_hooks=hooks, follow_redirects=True, timeout=None)

    set_client_factory(client)


def received_bytes() -> int:
    """Bytes of answers that have reached this process through the client since it was set up."""
    return _arrivals.total


def remove_leftovers(repository: str) -> None:
    """Remove pieces of downloads that nobody has added to for an hour: those of processes that were killed.

    `repository` as the client calls its folder, such as datasets--owner--name.
    """
    from huggingface_hub import constants

    for piece in (Path(constants.HF_HUB_CACHE) / repository / "blobs").glob("*.incomplete"):
        with suppress(OSError):
            if time.time() - piece.stat().st_mtime > _LEFT_AFTER_S:
                piece.unlink()


def retry_after_s(headers: Any) -> float | None:
    """The seconds that an answer asks to wait for: a number, a date, or when a rate limit begins anew."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    if value:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None
    reset = _RESET.search(headers.get("ratelimit", ""))
    return float(reset[1]) if reset else None


def _limit(request: Any) -> None:
    """Shorten the time that a request may wait."""
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        kind: min(limits.get(kind) or LONGEST_SILENCE_S, LONGEST_SILENCE_S)
        for kind in ("connect", "read", "write", "pool")
    }


def _look_at(response: Any) -> None:
    """Count an answer that begins; raises HubBusy."""
    _arrivals.begin(response)
    wait_s = retry_after_s(response.headers) if response.status_code in _BUSY else None
    if wait_s is not None:
        raise HubBusy(str(response.url), response.status_code, wait_s)
