"""Measures the optimizer steps of a training for `fsearch bench step`, in a process of its own.

    python -m fsearch.train.bench_step --messages-fd N --parent PID     with the job on stdin

Out go `progress`, one `setting` (model, machine), one `row` and a `result`. Nothing heavy is imported at the
top: the process must be tied to its parent first.

Deliberately not here: what is measured and how (fsearch.train.step_measurement), everything on the screen.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fsearch.train.bench_kernel import load_built
from fsearch.train.job import Channel, Job, argument_parser, main


def run(job: Job, channel: Channel) -> None:
    """Measure a job's "shape" by name in its "precision" with its "threads", the kernel from its "cache".

    "batch" and "tokens" are the shape's own where they are None. The kernel is built if it is not there.
    """
    channel.enter("build")
    if load_built(Path(job["cache"]), (), channel) is None:
        return
    channel.enter("measure")
    from fsearch.train.step_measurement import SHAPES, StepMeasurement

    shape = SHAPES[job["shape"]]
    batch, tokens = job["batch"] or shape.batch, job["tokens"] or shape.tokens
    StepMeasurement(shape, batch, tokens, job["precision"], job["threads"], channel).run()
    channel.send("result", outcome="completed")


if __name__ == "__main__":
    sys.exit(main(run, argument_parser().parse_args()))
