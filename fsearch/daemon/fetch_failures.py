"""What went wrong while something was fetched and read: one table from errors to an outcome and advice.

An error reaches us as its chain: it, what it was raised from, and so on. Libraries hide what happened
behind another error (a 503 comes out as FileNotFoundError), so a line of the table may fit any link. Classes
are known by their names, because those of the HTTP library lie in another package with every other release.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Link = dict[str, Any]
"""One error: `names` (of its class and those above it), `message`, `status`, `errno`, `retry_after_s`."""

NETWORK_PHASES = frozenset({"fetch", "download"})
PHASES = NETWORK_PHASES | {"prepare", "inspect"}
"""Where the table holds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A line of the table. It fits a link of which everything is true that is said here."""

    pattern: str
    outcome: str
    advice: str  # a sentence; {said} is the first line of what the link says, {status} that of the answer
    names: str = ""  # regular expression for the whole name of its class or of one above it
    statuses: range | frozenset[int] | None = None
    errnos: frozenset[int] | None = None
    text: str = ""  # regular expression
    phases: frozenset[str] = PHASES

    def fits(self, link: Link, phase: str) -> bool:
        return (
            phase in self.phases
            and (not self.names or any(re.fullmatch(self.names, name) for name in link["names"]))
            and (self.statuses is None or link.get("status") in self.statuses)
            and (self.errnos is None or link.get("errno") in self.errnos)
            and re.search(self.text, link["message"]) is not None
        )


TABLE: tuple[Failure, ...] = (
    Failure("refused", "data_refused", "{said}", names="DataRefused|VocabularyError"),
    Failure(
        "gated",
        "data_refused",
        "the data set is gated: accept its terms on its page at the hub, then set HF_TOKEN to your token "
        "({said})",
        names="GatedRepoError",
    ),
    Failure(
        "no such revision",
        "data_refused",
        "the data set has no such revision: write another as `revision` in the plan ({said})",
        names="RevisionNotFoundError",
    ),
    Failure(
        "no such data set",
        "data_refused",
        "there is no such data set at the hub, or it is private and HF_TOKEN is not set: mend its name in "
        "the plan, or set HF_TOKEN ({said})",
        names="RepositoryNotFoundError|HFValidationError",
    ),
    Failure(
        "disabled",
        "data_refused",
        "the hub has disabled the data set: use another ({said})",
        names="DisabledRepoError",
    ),
    Failure(
        "busy",
        "network_wait",
        "the hub asks to be left alone for a while ({said})",
        names="HubBusy",
    ),
    Failure(
        "status 408, 425 or 429",
        "network_wait",
        "the hub answers {status}, which passes ({said})",
        statuses=frozenset({408, 425, 429}),
    ),
    Failure(
        "status 5xx",
        "network_wait",
        "the hub answers {status}, an error of its own ({said})",
        statuses=range(500, 600),
    ),
    Failure(
        "status 401 or 403",
        "data_refused",
        "the hub, or a proxy before it, refuses access ({status}): set HF_TOKEN to a token that may read "
        "it, or ask whoever runs the proxy ({said})",
        statuses=frozenset({401, 403}),
    ),
    Failure(
        "status 4xx",
        "data_refused",
        "the hub answers {status} and would again: look at HF_ENDPOINT and at the plan ({said})",
        statuses=range(400, 500),
    ),
    Failure(
        "offline mode",
        "network_wait",
        "HF_HUB_OFFLINE is set and not everything is in the hub's cache: start again without it ({said})",
        names="OfflineModeIsEnabled",
    ),
    Failure(
        "no connection",
        "network_wait",
        "the hub cannot be reached ({said})",
        names="ConnectError|ConnectTimeout|ProxyError|gaierror|SSLError|ConnectionRefusedError",
    ),
    Failure(
        "disk full",
        "disk_full",
        "the disk is full: make room there, or put HF_HOME or --state on another ({said})",
        errnos=frozenset({errno.ENOSPC, errno.EDQUOT}),
    ),
    Failure(
        "disk refuses",
        "disk_refused",
        "a folder or a file cannot be read or written: mend it, or put HF_HOME or --state elsewhere ({said})",
        errnos=frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}),
    ),
    Failure(
        "broken off",
        "network_wait",
        "the connection to the hub broke off ({said})",
        names="NetworkError|ProtocolError|DecodingError|ConnectionError",
    ),
    Failure(
        "no answer in time",
        "network_wait",
        "the hub did not answer in time ({said})",
        names="TimeoutException|TimeoutError|ReadTimeout|WriteTimeout|PoolTimeout",
    ),
    Failure(
        "incomplete",
        "network_wait",
        "a file came incomplete ({said})",
        names="OSError",
        text="Consistency check failed",
    ),
    Failure(
        "damaged",
        "network_wait",
        "the hub sends something else than it says it has ({said})",
        names="HubDamaged",
    ),
    Failure(
        "not a hub",
        "network_wait",
        "what answers is not a hub, such as the page of a network one has to log in to: look at HF_ENDPOINT "
        "and at the network ({said})",
        names="FileMetadataError|JSONDecodeError|UnicodeDecodeError|LocalEntryNotFoundError",
        phases=NETWORK_PHASES,
    ),
    Failure(
        "storage of the hub",
        "network_wait",
        "the hub's storage cannot be reached ({said})",
        names="RuntimeError",
        text="CAS Client Error|[Xx]et",
        phases=NETWORK_PHASES,
    ),
)
"""The first line that fits a link decides; among the links the first that it fits."""


def failure_of(chain: Sequence[Link], phase: str) -> tuple[Failure, Link] | None:
    """The line of the table for a chain of errors, and the link that it fits; None if no line does."""
    return next(((failure, link) for failure in TABLE for link in chain if failure.fits(link, phase)), None)


def sentence(failure: Failure, link: Link) -> str:
    """What happened and what to do."""
    said = link["message"].strip().split("\n")[0] or link["names"][0]
    return failure.advice.format(said=said, status=link.get("status"))


def retry_after_s(chain: Sequence[Link]) -> float | None:
    """How long the hub wishes to be left alone, if it said so."""
    return next((link["retry_after_s"] for link in chain if link.get("retry_after_s") is not None), None)
