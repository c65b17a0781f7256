"""An attempt as the job that a process understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fsearch.search.board import Record, Run
from fsearch.search.ids import stream
from fsearch.search.outcomes import UNKNOWN_TRIES
from fsearch.search.probe import probe_memory_mib
from fsearch.search.rows import Attempt, AttemptSpec, DataFact, ModelFact
from fsearch.system import faults

CHECKPOINT_EVERY_S = 30.0
"""The least time between two checkpoints; where one takes long it is more, see `Pace` of train.checkpoint."""


def attempt_job(
    run: Run,
    data: DataFact,
    model: ModelFact | None,
    *,
    fingerprint: str,
    device: str,
    threads: int,
    backend: str,
    state: Path,
) -> dict[str, Any]:
    """The job of a worker: train and score one attempt, from the checkpoint `model` if it starts from one.

    The fingerprint changes no number; it keeps a checkpoint of other code from being taken up.
    """
    spec = run.spec
    variant_stream = int(spec.form.get("stream", 0))
    reference = run.noop_reference
    checkpoint = {"path": str(checkpoint_path(state, spec)), "every_s": CHECKPOINT_EVERY_S}
    return {
        "kind": "attempt",
        "attempt": spec.id,
        "try": run.try_number,
        "fingerprint": fingerprint,
        "role": spec.role,
        "model": spec.model,
        "model_file": None
        if model is None
        else {name: getattr(model, name) for name in ("path", "size_bytes", "modified_ns")},
        "data": {"path": data.path, "sha256": data.sha256},
        "halves": list(spec.halves),
        "recipe": spec.recipe,
        "batch": spec.batch,
        "micro_batch": spec.micro_batch,
        "steps": spec.steps,
        "memory_mib": _memory_mib(spec),
        "evaluate": spec.evaluate,
        "form": spec.form,
        "streams": {
            purpose: stream(spec.master_seed, spec.seed, variant_stream, purpose)
            for purpose in _purposes(spec, model)
        },
        "noop_reference": None
        if reference is None
        else {
            "first_losses": list(reference.first_losses),
            "weights_sha256": reference.early_weights_sha256,
        },
        "look": None if run.look is None else asdict(run.look),
        "device": device,
        "threads": threads,
        "backend": backend,
        "checkpoint": None if spec.role == "probe" else checkpoint,
    }


def _purposes(spec: AttemptSpec, model: ModelFact | None) -> list[str]:
    """What an attempt needs random numbers for."""
    purposes = ["order"] if model is not None else ["init", "order"]
    return [*purposes, "completions"] if spec.completions else purposes


def _memory_mib(spec: AttemptSpec) -> int | None:
    """What the process may take: a probe leaves a margin for the trainings that it speaks for."""
    if spec.memory_mib is None or spec.role != "probe":
        return spec.memory_mib
    return probe_memory_mib(spec.memory_mib)


def prepare_job(spec: AttemptSpec, cache: Path, pins: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The job of a preparation process; `pins` are the commits of "owner/name@revision" that are known."""
    return {
        "kind": "prepare",
        "task": spec.task,
        "arguments": spec.arguments,
        "master_seed": spec.master_seed,
        "cache": str(cache),
        "pins": dict(pins or {}),
    }


def inspect_job(checkpoint: str, *, download: bool = True) -> dict[str, Any]:
    """The job of an inspection of a checkpoint: an absolute path, or an hf:// address."""
    return {"kind": "inspect", "checkpoint": checkpoint, "download": download}


def build_job(cache: Path, cuda: Sequence[str]) -> dict[str, Any]:
    """The job of a kernel build: for the CPU, and for GPUs as `cuda` names them to nvcc."""
    return {"kind": "build", "cache": str(cache), "cuda": list(cuda)}


def checkpoint_path(state: Path, spec: AttemptSpec) -> Path:
    return state / "checkpoints" / f"{spec.id}.pt"


def remove_stale_checkpoints(state: Path, record: Record, environment: str) -> None:
    """Remove the checkpoints that no attempt will go on from.

    Those of attempts that have closed or are in no record, those that were written under another environment
    than the present one, which are never taken up, and half-written ones. To be called while nothing trains.
    """
    for path in (state / "checkpoints").iterdir():
        tries = record.all_tries(path.name.partition(".")[0])
        if not tries or _is_over(tries) or tries[-1].fingerprints.get("environment") != environment:
            faults.point("before a checkpoint is removed")
            path.unlink(missing_ok=True)


def _is_over(tries: Sequence[Attempt]) -> bool:
    """Whether an attempt will not be tried again, whatever the plan."""
    unknown = sum(row.outcome_class == "unknown" for row in tries)
    return tries[-1].outcome_class in ("result", "configuration") or unknown >= UNKNOWN_TRIES


def remove_checkpoints(state: Path, identity: str) -> None:
    """Remove what an attempt has left of its checkpoints: the newest, the one before, a half-written one."""
    for path in (state / "checkpoints").glob(f"*{identity}.pt*"):
        faults.point("before a checkpoint is removed")
        path.unlink(missing_ok=True)
