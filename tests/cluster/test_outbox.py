"""What an actor says arrives once and in order, even where an answer of it is lost."""

from __future__ import annotations

import random
import threading

from fsearch.cluster.outbox import Outbox


def test_a_lost_answer_is_said_again() -> None:
    """Half of the answers are lost on the way; nothing is missing, doubled or out of order."""
    outbox, chance, heard, arrived = Outbox(), random.Random(0), 0, []
    for number in range(100):
        outbox.put({"said": number})
        answer = outbox.take(heard, 0.0)
        if chance.random() < 0.5:
            arrived += [said["said"] for _, said in answer]
            heard = answer[-1][0] if answer else heard
    arrived += [said["said"] for _, said in outbox.take(heard, 0.0)]
    assert arrived == list(range(100))


def test_who_hears_waits_for_something_to_be_said() -> None:
    """Until it is said, and no longer than asked."""
    outbox = Outbox()
    assert outbox.take(0, 0.01) == []
    timer = threading.Timer(0.05, outbox.put, [{"said": 1}])
    timer.start()
    assert outbox.take(0, 60.0) == [(1, {"said": 1})]
