"""One attempt as the drafts ran each of theirs, in a fresh interpreter, for `fsearch bench search`.

    python -m fsearch.train.bench_attempt --messages-fd N --parent PID [--kernel-cache DIR]

with {"attempt": the job of an attempt, "task", "arguments", "master_seed"} on stdin. It makes the data anew,
in a folder that goes with it, and then trains as every attempt does; the numbers are the same.

Deliberately not here: which attempts there are, and any measuring. Nothing heavy is imported at the top: the
process must be tied to its parent first.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fsearch.train.job import Channel, Job, argument_parser, main, set_environment


def run(job: Job, channel: Channel, kernel_cache: Path | None) -> None:
    """Prepare, load, train, evaluate."""
    set_environment()
    from fsearch.tasks import prepared
    from fsearch.train import trainer

    with TemporaryDirectory(prefix="fsearch-bench-") as cache:
        channel.enter("prepare")
        data = prepared.prepare(job["task"], job["arguments"], job["master_seed"], Path(cache))
        attempt = job["attempt"]
        trainer.run({**attempt, "data": {**attempt["data"], "path": str(data.path)}}, channel, kernel_cache)


if __name__ == "__main__":
    parser = argument_parser()
    parser.add_argument("--kernel-cache", type=Path)
    arguments = parser.parse_args()
    sys.exit(main(partial(run, kernel_cache=arguments.kernel_cache), arguments))
