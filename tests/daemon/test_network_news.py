"""What is told of an outage: its beginning and its end, once each."""

from __future__ import annotations

import pytest

from fsearch.daemon.network import network_news
from fsearch.plan import expand
from fsearch.search.specs import inspect_spec, prepare_spec
from tests.search.builders import plan_of, row

PLAN = plan_of(model={"checkpoint": "hf://o/r/f.pth"}, tasks=[{"task": "hub", "batch": 4}])
DATA = prepare_spec(expand(PLAN)[0], "env")
MODEL = inspect_spec(PLAN, "env")


def test_an_outage_is_told_when_it_begins_and_when_it_ends() -> None:
    """Not at the tries between; a new daemon tells it anew."""
    rows = []
    told = []
    for number, word in enumerate(["network_wait"] * 3 + ["completed"], start=1):
        running = row(DATA, None, try_number=number)
        ended = row(DATA, word, try_number=number, reason="no route")
        told.append(network_news([*rows, running], ended))
        rows.append(ended)
    begins, *between, ends = told
    assert begins == "waiting for the data of hub, trying again at longer and longer intervals: no route"
    assert between == ["", ""]
    assert ends == "the network is back: the data of hub could be asked for"
    later = row(DATA, "network_wait", try_number=4, reason="no route", daemon="d2")
    assert network_news(rows[:3], later) == begins


@pytest.mark.parametrize(
    ("word", "back"), [("data_refused", True), ("disk_full", False), ("interrupted", False)]
)
def test_only_an_answer_says_that_the_network_is_back(word: str, back: bool) -> None:
    """A full disk or a stop says nothing about it."""
    news = network_news([row(MODEL, "network_wait")], row(MODEL, word, try_number=2))
    assert news == ("the network is back: hf://o/r/f.pth could be asked for" if back else "")


def test_without_an_outage_nothing_is_told() -> None:
    """A data set that is there at once, or refused at once."""
    for word in ("completed", "data_short", "crashed"):
        assert network_news([], row(DATA, word)) == ""
