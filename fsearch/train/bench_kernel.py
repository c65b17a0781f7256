"""Measures the WKV7-FS operator for `fsearch bench kernel`, in a process of its own.

    python -m fsearch.train.bench_kernel --messages-fd N --parent PID     with the job on stdin

Out go one `setting` (machine, versions, limits), one `shape` for each shape as soon as it is measured,
`progress` in between, and a `result`. Nothing heavy is imported at the top: the process must be tied to its
parent first.

Deliberately not here: what is measured and how (fsearch.train.kernel_measurement), everything on the screen.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fsearch.train.job import Channel, Job, argument_parser, main

if TYPE_CHECKING:
    import torch


def run(job: Job, channel: Channel) -> None:
    """Measure on a job's "device" with its "threads", the "quick" shapes or all, the kernel from its "cache".

    It is built if it is not there.
    """
    channel.enter("build")
    import torch

    from fsearch.kernels import build
    from fsearch.train.kernel_measurement import FULL, QUICK, Measurement

    try:
        device = _device(job["device"])
    except ValueError as error:
        channel.send("result", outcome="no_device", reason=str(error))
        return
    targets = build.native_targets() if device.type == "cuda" else ()
    if not load_built(Path(job["cache"]), targets, channel):
        return
    channel.enter("measure")
    torch.set_num_threads(job["threads"])
    measurement = Measurement(device, job["threads"], job["quick"], channel)
    measurement.run(QUICK if job["quick"] else FULL)
    channel.send("result", outcome="completed")


def load_built(cache: Path, targets: tuple[str, ...], channel: Channel) -> bool:
    """Load the kernel for `targets`, built first if `cache` lacks it. If that fails: a `result`, False."""
    from fsearch import kernels
    from fsearch.kernels import build

    try:
        built = build.build(cache, cuda=targets, progress=lambda line: channel.send("progress", doing=line))
    except build.KernelBuildError as error:
        print(error.detail, file=sys.stderr)
        channel.send("result", outcome="kernel_build_failed", reason=error.reason)
        return False
    kernels.load(built.library)
    return True


def _device(asked: str) -> torch.device:
    """The device that a name stands for. Raises ValueError, with a sentence, if it is not there."""
    import torch

    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda:0" if asked == "auto" else asked)
    count = torch.cuda.device_count()
    if device.index >= count:
        seen = f"torch sees {count} GPU{'s' * (count > 1)}" if count else "torch sees no GPU"
        raise ValueError(f"There is no {asked} here: {seen}. Try --device cpu.")
    torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    sys.exit(main(run, argument_parser().parse_args()))
