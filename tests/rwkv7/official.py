"""Checkpoints in the official format, written out key by key and without the package's own code."""

from __future__ import annotations

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def weights(
    n_layer: int,
    n_embd: int,
    vocab_size: int = 65536,
    head_size: int = 64,
    ranks: tuple[int, int, int, int] = (64, 48, 32, 96),
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
) -> Weights:
    """Random weights at the scales of a trained model: every part of it moves the logits.

    `ranks` are those of w, a, v, g.
    """
    source = torch.Generator().manual_seed(seed)
    c = n_embd

    def normal(*shape: int, scale: float, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(shape, generator=source)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Tensor:
        return normal(rows, columns, scale=gain / columns**0.5)

    out: Weights = {"emb.weight": normal(vocab_size, c, scale=0.3)}

    def layer_norm(name: str) -> None:
        out[f"{name}.weight"] = normal(c, scale=0.2, mean=1.0)
        out[f"{name}.bias"] = normal(c, scale=0.1)

    for layer in range(n_layer):
        block = f"blocks.{layer}"
        if layer == 0:
            layer_norm(f"{block}.ln0")
        layer_norm(f"{block}.ln1")
        layer_norm(f"{block}.ln2")
        att = f"{block}.att"
        for name in "rwkvag":
            out[f"{att}.x_{name}"] = torch.rand((1, 1, c), generator=source)
        out[f"{att}.w0"] = torch.linspace(-6, 0.5, c).view(1, 1, c) + normal(1, 1, c, scale=0.3)
        out[f"{att}.a0"] = normal(1, 1, c, scale=0.5)
        adapters = dict(zip("wavg", ranks, strict=True))
        if layer > 0:
            out[f"{att}.v0"] = normal(1, 1, c, scale=0.5)
        else:
            del adapters["v"]
        for name, rank in adapters.items():
            out[f"{att}.{name}1"] = normal(c, rank, scale=c**-0.5)
            out[f"{att}.{name}2"] = normal(rank, c, scale=rank**-0.5)
        out[f"{att}.k_k"] = normal(1, 1, c, scale=0.1, mean=0.7)
        out[f"{att}.k_a"] = normal(1, 1, c, scale=0.1, mean=1.0)
        out[f"{att}.r_k"] = normal(c // head_size, head_size, scale=0.1)
        for name in ("receptance", "key", "value", "output"):
            out[f"{att}.{name}.weight"] = matrix(c, c)
        out[f"{att}.ln_x.weight"] = normal(c, scale=0.2, mean=1.0)
        out[f"{att}.ln_x.bias"] = normal(c, scale=0.1)
        out[f"{block}.ffn.x_k"] = torch.rand((1, 1, c), generator=source)
        out[f"{block}.ffn.key.weight"] = matrix(4 * c, c)
        out[f"{block}.ffn.value.weight"] = matrix(c, 4 * c)
    layer_norm("ln_out")
    out["head.weight"] = matrix(vocab_size, c)
    return {name: value.to(dtype) for name, value in out.items()}


def with_unused(weights: Weights) -> Weights:
    """As some releases have it: the value residual's adapter in layer 0 too, where it counts for nothing."""
    c = weights["emb.weight"].shape[1]
    return weights | {
        "blocks.0.att.v0": torch.full((1, 1, c), 7.0),
        "blocks.0.att.v1": torch.full((c, 32), 7.0),
        "blocks.0.att.v2": torch.full((32, c), 7.0),
    }


def with_swapped_factors(weights: Weights, adapter: str) -> Weights:
    """The factors of one adapter in each other's place, transposed: every shape fits."""
    swapped = dict(weights)
    for name in weights:
        if name.endswith(f".att.{adapter}1"):
            other = f"{name[:-1]}2"
            swapped[name], swapped[other] = weights[other].T.contiguous(), weights[name].T.contiguous()
    return swapped
