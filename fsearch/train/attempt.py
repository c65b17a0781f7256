"""One attempt in a cold process: the same numbers, to the bit, as a worker of the zygote gives.

    python -m fsearch.train.attempt --messages-fd N --parent PID [--kernel-cache DIR] [--cuda sm_90 ...]

with the job on stdin.

Deliberately not here: the training itself, which is in `trainer`. Importing that takes seconds, in which this
process must already be tied to its parent, so the import waits until the job runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fsearch.train.job import Channel, Job, argument_parser, main, set_environment


def run(job: Job, channel: Channel, kernel_cache: Path | None, cuda: Sequence[str]) -> None:
    """Run one attempt job, with the kernel compiled for the GPUs `cuda` if it lies in `kernel_cache`."""
    set_environment()
    from fsearch.train import trainer

    trainer.run(job, channel, kernel_cache, cuda)


if __name__ == "__main__":
    parser = argument_parser()
    parser.add_argument("--kernel-cache", type=Path)
    parser.add_argument("--cuda", nargs="*", default=())
    arguments = parser.parse_args()
    sys.exit(main(partial(run, kernel_cache=arguments.kernel_cache, cuda=arguments.cuda), arguments))
