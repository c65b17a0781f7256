"""States with a fixed record: one at its end, one stopped midway, one running, one empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.record import fill, the_plan

MIDWAY = 52
"""Steps of the protocol after which the second search is under confirmation."""


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a plan that has ended."""
    state = tmp_path_factory.mktemp("whole") / "state"
    fill(state, the_plan())
    return state


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a plan that was stopped midway."""
    state = tmp_path_factory.mktemp("stopped") / "state"
    fill(state, the_plan(), stop_after=MIDWAY)
    return state


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a plan that is running; this process stands for the daemon."""
    state = tmp_path_factory.mktemp("live") / "state"
    fill(state, the_plan(), stop_after=MIDWAY, running=True)
    return state


@pytest.fixture
def state(kernel_library: Path, tmp_path: Path) -> Path:
    """A state whose kernel is built already."""
    cache = tmp_path / "state" / "cache"
    cache.mkdir(parents=True)
    (cache / "kernel").symlink_to(kernel_library.parent)
    return tmp_path / "state"
