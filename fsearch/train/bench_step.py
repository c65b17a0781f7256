"""Measures the optimizer steps of a training for `fsearch bench step`, in a process of its own.

    python -m fsearch.train.bench_step --messages-fd N --parent PID     with the job on stdin

Out go `progress`, one `setting` (model, machine), a `row` for each case or one `peak`, and a `result`.
Nothing heavy is imported at the top: the process must be tied to its parent first.

Deliberately not here: what is measured and how (fsearch.train.step_measurement), everything on the screen.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fsearch.train.bench_kernel import device_of, load_built
from fsearch.train.job import Channel, Job, argument_parser, main, set_environment


def run(job: Job, channel: Channel) -> None:
    """Measure a job's "cases" on its "device": how fast they are, beside each other, or, of a single one with
    "peak", how much memory it takes.

    The kernel is from the job's "cache", built if it is not there.
    """
    set_environment()
    channel.enter("build")
    from fsearch.train import fla_step
    from fsearch.train.kernel_measurement import targets_of

    try:
        device = device_of(job["device"])
        if any(case["contender"] == "fla" for case in job["cases"]):
            channel.send("progress", doing="importing flash-linear-attention")
            fla_step.refuse(device)
    except ValueError as error:
        channel.send("result", outcome="refused", reason=str(error))
        return
    if load_built(Path(job["cache"]), targets_of(device), channel) is None:
        return
    channel.enter("measure")
    from fsearch.train.step_measurement import StepMeasurement

    measurement = StepMeasurement(job, device, channel)
    if job["peak"]:
        measurement.peak()
    else:
        measurement.run()
    channel.send("result", outcome="completed")


if __name__ == "__main__":
    sys.exit(main(run, argument_parser().parse_args()))
