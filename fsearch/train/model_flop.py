"""How many operations a training step is made of, and how many a GPU could do: model FLOP utilisation.

Counted is what the model asks for, not what an implementation does: recomputing is not counted, and a
multiply-add is two operations.
"""

from __future__ import annotations

from fsearch.rwkv7 import RWKV7
from fsearch.train.recipe import Precision

_BACKWARD = 2
"""A backward pass makes two products for each of the forward pass."""

_PEAKS: dict[str, dict[Precision, float]] = {
    "NVIDIA H200": {"bf16": 989e12, "fp32": 67e12},
    "NVIDIA H100 80GB HBM3": {"bf16": 989e12, "fp32": 67e12},
    "NVIDIA A100-SXM4-80GB": {"bf16": 312e12, "fp32": 19.5e12},
    "NVIDIA A100-SXM4-40GB": {"bf16": 312e12, "fp32": 19.5e12},
    "NVIDIA GeForce RTX 4090": {"bf16": 165.2e12, "fp32": 82.6e12},
    "NVIDIA GeForce RTX 3090": {"bf16": 71e12, "fp32": 35.6e12},
}
"""Dense operations a second by NVIDIA's data sheets: bf16 on tensor cores with float32 sums, fp32 without
TF32, which is off in a training."""


def of_step(model: RWKV7, tokens: int, targets: int) -> int:
    """Operations of one step over so many tokens, of which `targets` go through the head.

    Forward 2 for each weight of a matrix and token, and 9 N^2 for each token and head of the recurrence:
    S a and S r (2 each), the decay (1), the two outer products (2 each).
    """
    matrices = sum(
        parameter.numel()
        for name, parameter in model.blocks.named_parameters()
        if parameter.dim() == 2 and not name.endswith("r_k")  # which weighs, channel by channel
    )
    recurrence = 9 * model.head_size**2 * model.n_head * model.n_layer
    forward = tokens * (2 * matrices + recurrence) + targets * 2 * model.head.weight.numel()
    return (1 + _BACKWARD) * forward


def stated_peak(gpu: str | None, precision: Precision) -> float | None:
    """Operations a second that the maker states for a GPU, by its driver's name for it; None: unknown."""
    return None if gpu is None or gpu not in _PEAKS else _PEAKS[gpu][precision]
