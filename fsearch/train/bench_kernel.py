"""Measures the WKV7-FS operator for `fsearch bench kernel`, in a process of its own.

    python -m fsearch.train.bench_kernel --messages-fd N --parent PID     with the job on stdin

Out go one `setting` (machine, versions, limits), one `shape` for each shape as soon as it is measured, with
"tune" one `tuning` for each of its shapes and a `tuned`, `progress` in between, and a `result`. Nothing heavy
is imported at the top: the process must be tied to its parent first.

Deliberately not here: what is measured and how (fsearch.train.kernel_measurement), everything on the screen.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsearch.train.job import Channel, Job, argument_parser, main

if TYPE_CHECKING:
    import torch

    from fsearch.train.kernel_measurement import Measurement


def run(job: Job, channel: Channel) -> None:
    """Measure on a job's "device" with its "threads", the "quick" shapes or all, the kernel from its "cache".

    It is built if it is not there. "peers" are kernels of others, "module:function" by name. With "tune" the
    measurements by which a GPU's kernels are chosen are made too, and written beside the library.
    """
    channel.enter("build")
    from fsearch.kernels import library
    from fsearch.train.contender import named_peer
    from fsearch.train.kernel_measurement import FULL, QUICK, Measurement, targets_of

    try:
        device = device_of(job["device"])
        if job["tune"] and device.type == "cpu":
            raise ValueError("There is nothing to tune on a CPU: it has one kernel. Say --device cuda:0.")
        channel.send("progress", doing="importing peers")
        peers = {name: named_peer(place) for name, place in job["peers"].items()}
    except ValueError as error:
        channel.send("result", outcome="refused", reason=str(error))
        return
    built = load_built(Path(job["cache"]), targets_of(device), channel)
    if built is None:
        return
    if job["tune"] and not library.has_cuda2():
        channel.send("result", outcome="refused", reason=f"There is nothing to tune: {built} has one kernel.")
        return
    channel.enter("measure")
    import torch

    torch.set_num_threads(job["threads"])
    measurement = Measurement(device, job["threads"], job["quick"], channel, peers)
    measurement.run(QUICK if job["quick"] else FULL)
    if job["tune"]:
        _tune(measurement, device, built, channel)
    channel.send("result", outcome="completed")


def _tune(measurement: Measurement, device: torch.device, built: Path, channel: Channel) -> None:
    """Measure both kernels and write the table, unless one of them was wrong."""
    import torch

    from fsearch.kernels import choice, library, tuning
    from fsearch.train import kernel_tuning

    rows: list[dict[str, Any]] = []
    for some in measurement.rows(kernel_tuning.SHAPES, kernel_tuning.PAIR):
        rows += some
        channel.send("tuning", rows=some)
    if any(row.get("wrong") for row in rows):
        return
    table = kernel_tuning.table_of(rows, library.architecture(device.index or 0))
    about = {
        "gpu": torch.cuda.get_device_name(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
    }
    file = tuning.write(built, table, about)
    channel.send("tuned", file=str(file), name=choice.name(table, has_v2=True))


def load_built(cache: Path, targets: tuple[str, ...], channel: Channel) -> Path | None:
    """Load the kernel for `targets`, built first if `cache` lacks it. If that fails: a `result`, None."""
    from fsearch import kernels
    from fsearch.kernels import build

    try:
        built = build.build(cache, cuda=targets, progress=lambda line: channel.send("progress", doing=line))
    except build.KernelBuildError as error:
        print(error.detail, file=sys.stderr)
        channel.send("result", outcome="kernel_build_failed", reason=error.reason)
        return None
    kernels.load(built.library)
    return built.library


def device_of(asked: str) -> torch.device:
    """The device that a name stands for, in the order of `fsearch run`, which is that of nvidia-smi.

    Raises ValueError, with a sentence, if it is not there.
    """
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # CUDA reads it when it starts
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
