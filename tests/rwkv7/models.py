"""Small models, variants and batches that several test modules use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsearch.rwkv7 import RWKV7, FutureSeed, initialise

BASELINE: dict[str, Any] = {"gate": "none", "stream": 0}


def variant(layers: dict[str, float], alpha: float, **changes: Any) -> dict[str, Any]:
    """A canonical form: scalar gates, fixed, with norm, detach and clip 1, but for `changes`."""
    form = {"gate": "scalar", "layers": layers, "alpha": alpha, "alpha_lr": 0.0}
    return form | {"norm": True, "detach": True, "clip": 1.0, "stream": 0} | changes


# Every switch in both positions. A clip of 0.05 cuts, one of 1 hardly ever does.
VARIANTS = {
    "drafts": variant({"1": 1.0, "2": 1.0}, -2.0),
    "raw": variant({"1": 1.0, "2": 1.0}, 2.0, norm=False, detach=False, clip=None),
    "schedule": variant({"1": 0.4, "2": 1.0}, 0.5, detach=False, alpha_lr=0.05),
    "clipped": variant({"1": 1.0, "2": 1.0}, 1.0, norm=False, clip=0.05),
    "last": variant({"2": 1.0}, 0.0, detach=False, clip=None),
    "head": variant({"1": 1.0, "2": 0.7}, -1.0, gate="head", alpha_lr=0.05),
    "input": variant({"1": 1.0, "2": 0.8}, 0.2, gate="input", detach=False, weight_lr=0.05, bias_lr=0.02),
    "multiplied": variant({"1": 1.0, "2": 1.0}, -1.0, gate="head", alpha_head=0.5, alpha_head_lr=0.05),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh_model(seed: int = 0, n_layer: int = 3, vocab_size: int = 11) -> RWKV7:
    """A model of width 16 with two heads at its official initial values."""
    return initialise(RWKV7(n_layer, 16, 8, vocab_size), generator(seed))


def lively_model(seed: int = 0, n_layer: int = 3, vocab_size: int = 11) -> RWKV7:
    """As fresh_model, but no parameter is zero or constant, as if it had been trained."""
    model = fresh_model(seed, n_layer, vocab_size)
    source = generator(seed + 1)
    with torch.no_grad():
        model.emb.weight.normal_(generator=source)
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=source)
    return model


def lively_seed(
    form: dict[str, Any], kind: type[FutureSeed] = FutureSeed, n_head: int = 2, n_embd: int = 16
) -> Any:
    """The Future-Seed of a form, of class `kind`, its input gate as if it had been trained.

    None for the baseline.
    """
    made = kind.from_form(form, n_head, n_embd)
    if made is not None and form["gate"] == "input":
        with torch.no_grad():
            made.weight.normal_(generator=generator(7))
            made.bias.fill_(0.3)
    return made


def batch(lengths: list[int], vocab_size: int = 11, seed: int = 0) -> Tensor:
    """Random tokens [B, T], right-padded with token 0 to the longest of the lengths."""
    tokens = torch.randint(1, vocab_size, (len(lengths), max(lengths)), generator=generator(seed))
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = 0
    return tokens
