"""Prepares one data set in a process of its own, because building one can take long, fail or hang.

    python -m fsearch.train.prepare --messages-fd N --parent PID     with the job on stdin

Deliberately not here: what the examples are and how they lie on disk (fsearch.tasks), time limits. No torch.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fsearch.tasks import DataShort, Sources, prepared
from fsearch.train.arrivals import arrivals
from fsearch.train.job import Channel, Job, argument_parser, main

_PROGRESS_EVERY_S = 0.2


class _Progress:
    """Passes on how far the work is, at most five times a second."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sent = -_PROGRESS_EVERY_S

    def __call__(self, done: int, wanted: int) -> None:
        now = time.monotonic()
        if now - self._sent >= _PROGRESS_EVERY_S or done == wanted:
            self._sent = now
            self._channel.send("progress", done=done, of=wanted)


def run(job: Job, channel: Channel) -> None:
    """Prepare the data of a job, or find them prepared, and report what they are.

    Its "pins" are the commits that are known already of data sets of the hub, by "owner/name@revision".
    """
    channel.enter("prepare")
    cache = Path(job["cache"])
    task, arguments, master_seed = job["task"], job["arguments"], job["master_seed"]
    try:
        with arrivals(channel, "fetch"), Sources(cache, job.get("pins", {}), channel.enter) as sources:
            data = prepared.prepare(task, arguments, master_seed, cache, _Progress(channel), sources)
    except DataShort as short:
        channel.send("result", outcome="data_short", reason=str(short))
        return
    meta = data.meta
    channel.send(
        "result",
        outcome="completed",
        data={
            "path": str(data.path),
            "sha256": meta.sha256,
            "code_sha256": meta.code_sha256,
            "vocab_size": meta.vocab_size,
            "n_train": meta.n_train,
            "n_val_screen": meta.n_val_screen,
            "n_val_confirm": meta.n_val_confirm,
            "max_tokens": meta.max_tokens,
            "chance": meta.chance,
            "majority": meta.majority,
            "documents": _documents(data),
        },
        origins=[origin.model_dump() for origin in meta.origins],
    )


def _documents(data: prepared.Prepared) -> dict[str, list[int]]:
    """A number for the document of each validation example, by half; equal numbers, one document."""
    numbers: dict[int, int] = {}
    halves: tuple[prepared.SplitName, ...] = ("screen", "confirm")
    return {
        half: [numbers.setdefault(int(one), len(numbers)) for one in data.split(half).document]
        for half in halves
    }


if __name__ == "__main__":
    sys.exit(main(run, argument_parser().parse_args()))
