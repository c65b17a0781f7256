"""The table of what goes wrong while something is fetched, line by line, with the libraries' own errors."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import errors
from huggingface_hub.utils import hf_raise_for_status, httpx

from fsearch.daemon.fetch_failures import NETWORK_PHASES, TABLE
from fsearch.daemon.outcomes import Ending, Outcome, outcome_of
from fsearch.rwkv7 import HubUnreachable
from fsearch.system.chain import chain, first_line
from fsearch.system.hub_client import HubBusy
from fsearch.tasks.sources import DataRefused
from fsearch.tasks.sources.hub import HubDamaged
from fsearch.tokenizer.vocabulary import VocabularyError
from tests.daemon.test_outcome_table import error_of

REQUEST = httpx.Request("GET", "https://hub/api/datasets/owner/name")


def judged(error: Exception, phase: str = "fetch") -> Outcome:
    return outcome_of(Ending(error=error_of(error), exit_code=1, phase=phase))


def answered(status: int, code: str = "", request: Any = REQUEST) -> Exception:
    """What the client raises for an answer."""
    headers = {"X-Error-Code": code} if code else {}
    with pytest.raises(errors.HfHubHTTPError) as caught:
        hf_raise_for_status(httpx.Response(status, headers=headers, request=request))
    return caught.value


def hidden(error: Exception) -> Exception:
    """The error as `datasets` gives it on: behind another one, which denies it."""
    try:
        try:
            raise error
        except Exception:
            raise FileNotFoundError("Couldn't find any data file") from None
    except FileNotFoundError as other:
        return other


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/cache/file")


CASES: list[tuple[Exception, str, str]] = [
    (DataRefused("the split is called test"), "refused", "data_refused"),
    (VocabularyError("the World vocabulary is not installed"), "refused", "data_refused"),
    (answered(403, "GatedRepo"), "gated", "data_refused"),
    (answered(404, "RevisionNotFound"), "no such revision", "data_refused"),
    (answered(404, "RepoNotFound"), "no such data set", "data_refused"),
    (errors.HFValidationError("Repo id must be ..."), "no such data set", "data_refused"),
    (
        errors.DisabledRepoError("disabled", response=httpx.Response(403, request=REQUEST)),
        "disabled",
        "data_refused",
    ),
    (HubBusy("https://hub", 429, 60.0), "busy", "network_wait"),
    *((answered(status), "status 408, 425 or 429", "network_wait") for status in (408, 425, 429)),
    *((answered(status), "status 5xx", "network_wait") for status in (500, 502, 503, 504)),
    (answered(403), "status 401 or 403", "data_refused"),
    (answered(401, request=httpx.Request("GET", "https://hub/x")), "status 401 or 403", "data_refused"),
    *((answered(status), "status 4xx", "data_refused") for status in (400, 404, 410)),
    (errors.OfflineModeIsEnabled("offline mode is enabled"), "offline mode", "network_wait"),
    (httpx.ConnectError("[Errno 111] Connection refused"), "no connection", "network_wait"),
    (httpx.ConnectTimeout("timed out"), "no connection", "network_wait"),
    (httpx.ProxyError("407"), "no connection", "network_wait"),
    (caused(httpx.ConnectError(""), os_error(errno.EACCES)), "no connection", "network_wait"),
    (socket.gaierror(-2, "Name or service not known"), "no connection", "network_wait"),
    (ssl.SSLError("certificate has expired"), "no connection", "network_wait"),
    (os_error(errno.ENOSPC), "disk full", "disk_full"),
    (os_error(errno.EDQUOT), "disk full", "disk_full"),
    (caused(RuntimeError("generation failed"), os_error(errno.ENOSPC)), "disk full", "disk_full"),
    *(
        (os_error(n), "disk refuses", "disk_refused")
        for n in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    ),
    (httpx.ReadError("[Errno 104] Connection reset by peer"), "broken off", "network_wait"),
    (httpx.RemoteProtocolError("peer closed connection"), "broken off", "network_wait"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), "broken off", "network_wait"),
    (httpx.ReadTimeout("timed out"), "no answer in time", "network_wait"),
    (TimeoutError("timed out"), "no answer in time", "network_wait"),
    (OSError("Consistency check failed: file should be of size 9"), "incomplete", "network_wait"),
    (HubDamaged("came damaged twice"), "damaged", "network_wait"),
    (
        errors.FileMetadataError("Distant resource does not seem to be on huggingface.co"),
        "not a hub",
        "network_wait",
    ),
    (json.JSONDecodeError("Expecting value", "<html>", 0), "not a hub", "network_wait"),
    (RuntimeError("Data processing error: CAS Client Error: ..."), "storage of the hub", "network_wait"),
]


@pytest.mark.parametrize(("error", "pattern", "word"), CASES, ids=lambda value: f"{value}"[:30])
@pytest.mark.parametrize("wrapped", [lambda error: error, hidden], ids=["plain", "hidden"])
def test_an_error(
    error: Exception, pattern: str, word: str, wrapped: Callable[[Exception], Exception]
) -> None:
    """Its line is found behind another error as well; the sentence has what was said and what to do."""
    outcome = judged(wrapped(error))
    assert (outcome.pattern, outcome.word) == (pattern, word)
    said = [first_line(link) for link in chain(error) if first_line(link) in outcome.reason]
    assert said and (pattern == "refused" or len(outcome.reason) > len(said[0]) + 20)


def test_every_line_of_the_table_is_met() -> None:
    assert {failure.pattern for failure in TABLE} == {pattern for _, pattern, _ in CASES}


def test_the_wait_that_a_hub_asks_for() -> None:
    """It is in the outcome, for data and for models, wherever in the chain it was said."""
    busy = HubBusy("https://hub", 503, 75.0)
    assert judged(hidden(busy)).retry_after_s == 75.0
    model = judged(caused(HubUnreachable("hf://o/r/f could not be fetched"), busy), "download")
    assert (model.word, model.retry_after_s) == ("network_wait", 75.0)


def test_what_the_table_does_not_know_is_a_crash() -> None:
    """An error of our own while examples are built, and a network error where no network is used."""
    assert judged(KeyError("choices"), "prepare").word == "crashed"
    assert judged(ValueError("no such column"), "fetch").word == "crashed"
    assert judged(json.JSONDecodeError("Expecting value", "", 0), "prepare").word == "crashed"
    assert judged(answered(503), "train").word == "crashed"


@pytest.mark.parametrize("phase", ["start", "fetch", "prepare", "download", "inspect", "train"])
def test_silence(phase: str) -> None:
    """Where bytes are waited for it is the network's; elsewhere it is a hang."""
    outcome = outcome_of(Ending(signal=9, silent_s=121.0, phase=phase))
    assert outcome.word == ("network_wait" if phase in NETWORK_PHASES else "hang")
    assert "121 s" in outcome.reason and outcome.pattern == "silent"


def test_numbers_that_are_none_do_not_matter() -> None:
    """Attributes of foreign errors that happen to be called so."""

    class Strange(Exception):
        status: Any = "gone"
        errno: Any = print
        response: Any = object()

    assert judged(Strange("x")).word == "crashed"
