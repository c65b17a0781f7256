"""hf:// addresses against a hub on the loopback interface."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fsearch.rwkv7 import HubError, load, weights_sha256
from fsearch.rwkv7.hub import download
from tests.hub import ADDRESS, COMMIT, Fault, Hub, model

from . import official


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """30 MB: the client writes down what it has every 10 MiB."""
    path = tmp_path / "local.pth"
    torch.save(official.weights(2, 128, vocab_size=57_000), path)
    return path


@pytest.fixture
def hub(weights_file: Path) -> Iterator[Hub]:
    hub = Hub(model(weights_file.read_bytes()))
    yield hub
    hub.stop()


def loaded(address: str, hub: Hub, home: Path, offline: bool = False) -> str:
    """What a fresh process makes of an address: the hash of the weights, or the kind of error and its text.

    A process of its own, because the client reads its switches when it is imported.
    """
    program = (
        "import sys; from fsearch.rwkv7 import *\n"
        "try: print(weights_sha256(load(sys.argv[1])))\n"
        "except HubError as error: print(type(error).__name__, error)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
    process = subprocess.run(
        [sys.executable, "-c", program, address],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_a_cut_download_goes_on_where_it_was(hub: Hub, weights_file: Path, tmp_path: Path) -> None:
    expected = weights_sha256(load(weights_file))
    hub.faults = [
        Fault("^GET", "cut", times=1, after=11_000_000),
        Fault("^GET", "cut", skip=1, times=1, after=12_000_000),
    ]
    assert loaded(ADDRESS, hub, tmp_path) == expected
    whole, *rest = [wanted for command, _, wanted in hub.asked if command == "GET"]
    first, second = (int(re.fullmatch(r"bytes=(\d+)-", str(wanted))[1]) for wanted in rest)  # type: ignore[index]
    assert whole is None and 10_000_000 < first <= 11_000_000 and 20_000_000 < second <= first + 12_000_000
    assert {path for _, path, _ in hub.asked} <= {
        f"/owner/repo/resolve/{revision}/models/small.pth" for revision in ("main", COMMIT)
    }, "the hub was asked for something that is no part of the file"

    hub.stop()
    assert loaded(ADDRESS, hub, tmp_path) == expected, "what is in the cache needs no hub"
    at_revision = ADDRESS.replace("repo/", f"repo@{COMMIT}/")
    assert loaded(at_revision, hub, tmp_path, offline=True) == expected


def test_a_download_that_never_comes_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.faults = [Fault("^GET", "cut", after=0)]
    words = loaded(ADDRESS, hub, tmp_path)
    assert re.fullmatch(rf"HubUnreachable {ADDRESS} could not be fetched \(.+\)\. Try again later\.", words)


def test_offline(hub: Hub, tmp_path: Path) -> None:
    words = loaded(ADDRESS, hub, tmp_path, offline=True)
    assert words.startswith(f"HubUnreachable {ADDRESS} is not in the cache, and the hub could not be asked (")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://owner/repo/other.pth", "owner/repo has no file other.pth."),
        ("hf://owner/nowhere/small.pth", "there is no repository owner/nowhere at the hub, or it is private"),
        ("hf://owner/gated/small.pth", "is gated: accept its terms on the hub"),
    ],
)
def test_what_the_hub_does_not_have(address: str, words: str, hub: Hub, tmp_path: Path) -> None:
    said = loaded(address, hub, tmp_path)
    assert said.startswith(f"HubError {address}") and words in said


@pytest.mark.parametrize(
    "address", ["hf://", "hf://owner", "hf://owner/repo", "hf://owner/repo/", "hf://a b/repo/small.pth"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(HubError, match="is no address of a file; write hf://owner/repo/file"):
        download(address)
