"""What the hub's client is told, and what it tells: waits that a hub asks for, bytes that have arrived."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from fsearch.system.hub_client import SWITCHES, retry_after_s
from tests.hub import Fault, Hub, repository


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "soon"}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"Retry-After": "7", "ratelimit": '"api";r=0;t=55'}, 7),
        ({}, None),
    ],
)
def test_how_long_a_hub_asks_to_be_left_alone(headers: dict[str, str], seconds: float | None) -> None:
    """A number of seconds, or the beginning of a new window of its rate limit."""
    assert retry_after_s(headers) == seconds


def test_a_date_is_a_wait_too() -> None:
    """Retry-After may be a date; one that is past asks for nothing."""
    assert retry_after_s({"Retry-After": formatdate(time.time() + 90)}) == pytest.approx(90, abs=3)
    assert retry_after_s({"Retry-After": formatdate(0)}) == 0


PROGRAM = """
import sys
from fsearch.system import hub_client
hub_client.set_up()
hub_client.set_up()
from huggingface_hub import close_session, hf_hub_download
def got(path):
    try:
        return hf_hub_download("owner/files", path, revision="4" * 40)
    except Exception as error:
        return type(error).__name__, str(error).split(": ", 1)[-1]
got("a.bin")
print(hub_client.received_bytes())
print(got("busy.bin"))
close_session()
print(got("tired.bin"))
print(got("ill.bin")[0])
"""


def test_the_client(tmp_path: Path) -> None:
    """It counts what arrives, does not sleep for a busy hub, and is the same after its session was closed."""
    content = {"a.bin": bytes(3000), "busy.bin": b"", "tired.bin": b"", "ill.bin": b"1"}
    faults = [
        Fault("busy", "status", status=429, headers={"Retry-After": "3600"}),
        Fault("tired", "status", status=503, headers={"Retry-After": "60"}),
        Fault("GET.*ill", "status", status=503),
    ]
    with Hub({"owner/files": repository(content)}, faults=faults) as hub:
        home = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path)}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment | home,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert time.monotonic() - began_s < 30
    assert done.stdout.splitlines() == [
        "3000",
        "('HubBusy', 'the hub answers 429 and asks for 3600 s without requests')",
        "('HubBusy', 'the hub answers 503 and asks for 60 s without requests')",
        "HfHubHTTPError",
    ], done.stderr
    assert all(path.startswith("/owner/files/resolve/") for _, path, _ in hub.asked)


def test_what_a_person_has_set_stays() -> None:
    """A variable of the environment goes before ours."""
    program = "import os; from fsearch.system import hub_client; hub_client.set_up(); print(dict(os.environ))"
    given = {"HF_HUB_DISABLE_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    found = eval(done.stdout)
    assert {name: found[name] for name in SWITCHES} == {**SWITCHES, **given}
