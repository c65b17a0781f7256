"""The daemon's end of a zygote that dies at the wrong moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fsearch.daemon.devices import Device
from fsearch.daemon.zygote import Zygote, ZygoteDied


def test_a_zygote_that_dies_instead_of_forking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork fails by name, and whoever asks for deaths afterwards hears of none."""
    monkeypatch.setenv("FSEARCH_PROGRAMS", "tests.stub")
    zygote = Zygote(Device(), tmp_path, tmp_path / "zygote.log")
    zygote.wait_ready()
    os.kill(zygote.process.pid, signal.SIGKILL)
    with pytest.raises(ZygoteDied):
        zygote.fork({}, tmp_path / "log")
    zygote.end()
    assert not zygote.alive and zygote.deaths() == []
