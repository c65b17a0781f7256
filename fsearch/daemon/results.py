"""What a worker reports, as the record's columns."""

from __future__ import annotations

from typing import Any

from fsearch.store import Evaluation


def evaluation(message: dict[str, Any]) -> Evaluation:
    """A point of an attempt's curve, as the record keeps it."""
    return Evaluation(**{name: message[name] for name in Evaluation.__slots__ if name in message})


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row that a result message fills."""
    names = ["score", "loss", "acc_pooled", "screen_score", "screen_loss", "look_score", "metrics"]
    names += ["screen_metrics", "unavailable"]
    names += ["tokens", "backend", "early_weights_sha256", "weights_sha256", "peak_memory_mib"]
    found = {name: result[name] for name in names if result.get(name) is not None}
    if "steps" in result:
        found["steps_done"] = result["steps"]
        found["first_losses"] = tuple(result["first_losses"])
    if isinstance(result.get("seconds"), dict):
        found["seconds"] = result["seconds"]
    return found
