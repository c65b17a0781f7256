"""Prepares data that nobody reads: a folder with one file."""

from __future__ import annotations

import sys
from pathlib import Path

from fsearch.search.ids import data_key
from fsearch.system.files import write_atomic
from fsearch.tasks.prepared import code_sha256
from fsearch.train.job import Channel, Job, argument_parser, main
from tests.stub import HALF


def run(job: Job, channel: Channel) -> None:
    """Say that there are as many examples as the job asks for, and HALF in each half."""
    channel.enter("prepare")
    key = data_key(job["task"], job["arguments"], job["master_seed"])
    folder = Path(job["cache"]) / f"{job['task']}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "meta.json", b"{}")
    channel.send(
        "result",
        outcome="completed",
        data={
            "path": str(folder),
            "sha256": key * 4,
            "code_sha256": code_sha256(),
            "vocab_size": 8,
            "n_train": int(job["arguments"]["n_train"]),
            "n_val_screen": HALF,
            "n_val_confirm": HALF,
            "max_tokens": 8,
            "chance": 0.125,
            "majority": 0.25,
            "documents": {"screen": list(range(HALF)), "confirm": list(range(HALF, 2 * HALF))},
        },
        origins=[],
    )


if __name__ == "__main__":
    sys.exit(main(run, argument_parser().parse_args()))
