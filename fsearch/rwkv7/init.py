"""Training from scratch: the official initial values and the official parameter groups.

The reference is RWKV-LM, RWKV-v7/train_temp/src/model.py (the constructors' ramps, `generate_init_weight`,
`configure_optimizers`). Every random number comes from the generator handed in. Schedules are the trainer's
business.

At these values the last matrix of every block is zero: at step 0 no state, and so no seed, can reach a
logit.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from fsearch.rwkv7.future_seed import FutureSeed
from fsearch.rwkv7.model import RWKV7, Block


@torch.no_grad()
def initialise(model: RWKV7, generator: torch.Generator) -> RWKV7:
    """Give a model on the CPU its first values, in place, and return it."""
    nn.init.uniform_(model.emb.weight, -1e-4, 1e-4, generator=generator)
    for i, block in enumerate(model.blocks):
        _initialise_block(cast(Block, block), i, model.n_layer, generator)
    gain = 0.5 * math.sqrt(max(1.0, model.vocab_size / model.n_embd))
    nn.init.orthogonal_(model.head.weight, gain, generator)
    return model


def _initialise_block(block: Block, layer: int, n_layer: int, generator: torch.Generator) -> None:
    att, ffn = block.att, block.ffn
    n, c = att.head_size, att.n_head * att.head_size
    depth = layer / max(1, n_layer - 1)  # 0 in the first layer, 1 in the last
    rest = 1 - layer / n_layer  # 1 in the first layer, almost 0 in the last

    channel = torch.arange(c, dtype=torch.float64)
    ramp = channel / c  # 0 to almost 1
    line = channel / (c - 1)  # 0 to 1
    wave = (channel % n) / (n - 1) * 2 - 1  # -1 to 1 in each head
    wave = wave * wave.abs()

    for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
        _set(getattr(att, f"x_{name}"), 1 - ramp ** (power * rest))
    _set(att.w0, -5.5 + 6 * line ** (1 + depth**0.3) + 2.5 * wave)
    _set(att.a0, -0.19 + 0.4 * (line - 0.5) + 0.3 * wave)
    if layer > 0:
        _set(att.v0, 0.73 - 0.4 * (line - 0.5))
    _set(att.k_k, 0.71 - 0.1 * (line - 0.5))
    nn.init.constant_(att.k_a, 1.02)
    nn.init.constant_(att.r_k, -0.04)
    for name in "wavg" if layer > 0 else "wag":
        inner, outer = getattr(att, f"{name}1"), getattr(att, f"{name}2")
        nn.init.zeros_(inner)
        nn.init.orthogonal_(outer, 0.1 * math.sqrt(max(1.0, outer.shape[0] / c)), generator)

    nn.init.orthogonal_(att.receptance.weight, 1.0, generator)
    nn.init.orthogonal_(att.key.weight, 0.1, generator)
    nn.init.orthogonal_(att.value.weight, 1.0, generator)
    nn.init.zeros_(att.output.weight)
    nn.init.constant_(att.ln_x.weight, ((1 + layer) / n_layer) ** 0.7)

    _set(ffn.x_k, 1 - ramp ** (rest**4))
    nn.init.orthogonal_(ffn.key.weight, 1.0, generator)
    nn.init.zeros_(ffn.value.weight)


def _set(parameter: Tensor, values: Tensor) -> None:
    parameter.copy_(values.view_as(parameter))


def parameter_groups(
    model: RWKV7, future_seed: FutureSeed | None, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for torch.optim.AdamW, each with its `name`, `params`, `lr` and `weight_decay`.

    Decayed are the large matrices alone: embedding, head, and the blocks' matrices but not their low-rank
    adapters. The decay's offset w0 learns at twice the rate; what a Future-Seed trains is a group
    of its own each, under its name and at its own rate.
    """
    matrices, offsets, others = [], [], []
    for name, parameter in model.named_parameters():
        if name.endswith(".att.w0"):
            offsets.append(parameter)
        elif name.endswith(".weight") and parameter.dim() == 2:
            matrices.append(parameter)
        else:
            others.append(parameter)
    groups: list[dict[str, Any]] = [
        {"name": "matrices", "params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"name": "w0", "params": offsets, "lr": 2 * lr, "weight_decay": 0.0},
        {"name": "others", "params": others, "lr": lr, "weight_decay": 0.0},
    ]
    if future_seed is not None:
        for name, gate in future_seed.named_parameters():
            rate = future_seed.learning_rates[name]
            groups.append({"name": name, "params": [gate], "lr": rate, "weight_decay": 0.0})
    return groups
