"""Looks into a checkpoint before anything is trained from it: downloaded, checked whole, hashed.

    python -m fsearch.train.inspect --messages-fd N --parent PID     with the job on stdin

A process of its own, because a download can take long and fail, and because a model needs torch and memory.

Deliberately not here: the format and the hub (fsearch.rwkv7), retries, what the layers mean for a plan.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

from fsearch.system.files import sha256_file
from fsearch.train.arrivals import arrivals
from fsearch.train.job import Channel, Job, argument_parser, main


def run(job: Job, channel: Channel) -> None:
    """Inspect the checkpoint of a job and report what it is; every value is read.

    Raises CheckpointError for a file that cannot be used or opened, HubError, ModelChanged.
    """
    if not job["download"]:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is imported
    from fsearch.rwkv7 import CheckpointError, hub, load  # imports torch: seconds in which our parent may die
    from fsearch.train.model_file import ModelFile

    address = job["checkpoint"]
    path = Path(address)
    if address.startswith(hub.SCHEME):
        channel.enter("download")
        with arrivals(channel, "download"):
            path = hub.download(address)
    channel.enter("inspect")
    channel.send("progress", doing="reading the checkpoint")
    try:
        file = ModelFile.at(path)
        with file.unchanged():
            model = load(path)
            sha256 = sha256_file(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise CheckpointError(path, f"it cannot be opened ({error.strerror})") from error
    channel.send(
        "result",
        outcome="completed",
        reason=f"{model.n_layer} layers of width {model.n_embd}, a vocabulary of {model.vocab_size}",
        model={
            **asdict(file),
            "sha256": sha256,
            "n_layer": model.n_layer,
            "n_embd": model.n_embd,
            "head_size": model.n_embd // model.n_head,
            "vocab_size": model.vocab_size,
        },
    )


if __name__ == "__main__":
    sys.exit(main(run, argument_parser().parse_args()))
