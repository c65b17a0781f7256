"""What to train on: the CPU of this machine or one of its GPUs, as `--device` and CUDA_VISIBLE_DEVICES say.

Numbers are those of nvidia-smi, counted among the visible GPUs; from then on a GPU has one name, its UUID.

Deliberately not here: the lock on it, and how a worker computes there.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsearch.daemon import nvml


class NoDevice(Exception):
    """The device that was asked for cannot be trained on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a daemon trains on.

    `torch` is its name in a worker, which sees no other GPU; `model` is what the fingerprint holds.
    """

    torch: Literal["cpu", "cuda"] = "cpu"
    model: str = "cpu"
    uuid: str = ""  # of the GPU
    cuda: tuple[str, ...] = ()  # what the kernel is built for, such as ("sm_90",)
    why: str = ""  # a word to the person who left the choice to us

    @property
    def lock(self) -> str:
        """What its lock is named after, however it was asked for."""
        return self.uuid or "cpu"

    @property
    def environment(self) -> dict[str, str]:
        """What the processes that train are told beside our own environment."""
        return {"CUDA_VISIBLE_DEVICES": self.uuid} if self.uuid else {}

    def __str__(self) -> str:
        name = f"{self.model} ({self.uuid})" if self.uuid else self.model
        return f"{name}, {self.why}" if self.why else name


def find(asked: str) -> Device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` stands for. `auto` is the first GPU, else the CPU.

    Raises NoDevice.
    """
    if asked == "cpu":
        return Device()
    try:
        found = nvml.gpus()
    except nvml.NvmlError as error:
        why = f"no GPU can be used, because NVML, its driver's library, says: {error}"
        if asked == "auto":
            return Device(why="" if error.absent else why)
        raise NoDevice(f"There is no {asked} here: {why}. Try --device cpu.") from error
    gpus = visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
    without_cuda = "the installed torch is one without CUDA"
    if asked == "auto":
        if gpus and not torch_has_cuda():
            return Device(why=f"because {without_cuda}")
        return _gpu(gpus[0]) if gpus else Device()
    index = int(asked.partition(":")[2] or 0)
    if index >= len(gpus):
        here = f"{len(found)} GPU{'s' * (len(found) != 1)}"
        seen = f", {len(gpus)} of them visible by CUDA_VISIBLE_DEVICES" if len(gpus) < len(found) else ""
        raise NoDevice(f"There is no {asked} here: this machine has {here}{seen}. Try --device cpu.")
    if not torch_has_cuda():
        raise NoDevice(
            f"{gpus[index].model} cannot be used: {without_cuda}. Install another, or try --device cpu."
        )
    return _gpu(gpus[index])


def visible(gpus: Sequence[nvml.Gpu], variable: str | None) -> list[nvml.Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order: numbers, or the beginnings of UUIDs.

    As CUDA reads it: the first entry that names no GPU, or more than one, ends the list, and an entry given
    twice empties it.
    """
    if variable is None:
        return list(gpus)
    left: list[nvml.Gpu] = []
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isascii() and entry.isdigit():
            named = [gpus[int(entry)]] if int(entry) < len(gpus) else []
        else:
            named = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
        if len(named) != 1:
            break
        if named[0] in left:
            return []
        left += named
    return left


def torch_has_cuda() -> bool:
    """Whether the installed torch was built with CUDA, read from its files: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = (Path(spec.origin).parent / "version.py").read_text()
    return re.search(r"^cuda\b.*=\s*None\s*$", text, re.MULTILINE) is None


def _gpu(gpu: nvml.Gpu) -> Device:
    major, minor = gpu.capability
    return Device("cuda", gpu.model, gpu.uuid, (f"sm_{major}{minor}",))
