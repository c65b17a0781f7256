"""Future-Seed: layer i starts from what layer i-1 knew at the end of the prompt.

This module turns a captured state into a start state. Which state is captured, and when, is the model's
business; the variants' names and their schedules over depth are resolved into plain numbers before they
arrive here.

With S the state of layer i-1 after the prompt, one matrix a sample and head, the start state of layer i is

    Z = S                          detached, if asked: no gradient reaches the layer below through it
    Z = Z / max(rms(Z), 1e-6)      if asked; the rms is the matrix's own
    Z = Z * sigmoid(alpha) * m     alpha: one logit a layer, or one a head; m: the layer's fixed multiplier
    Z = clamp(Z, -clip, clip)      if asked

in this order. The last three are `fsearch.kernels.future_seed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fsearch.kernels import future_seed


class FutureSeed(nn.Module):
    """One variant of Future-Seed.

    `layers` are the seeded layers, ascending. `alpha` holds their gates' logits, float32: [layers, 1] for
    one gate a layer, [layers, H] for one a head; a parameter where `alpha_lr` is positive, a buffer where
    it is 0.
    """

    alpha: Tensor

    def __init__(
        self,
        multipliers: Mapping[int, float],
        n_gate: int,
        alpha: float,
        alpha_lr: float = 0.0,
        norm: bool = True,
        detach: bool = True,
        clip: float | None = 1.0,
    ) -> None:
        """`multipliers`: seeded layer -> m. `n_gate`: gates a layer, 1 or H. `alpha`: every gate's first
        logit.

        Raises ValueError for a layer below 1, a clip that is not positive, a negative learning rate.
        """
        super().__init__()
        self.layers = tuple(sorted(multipliers))
        self.multipliers = tuple(float(multipliers[layer]) for layer in self.layers)
        if self.layers and self.layers[0] < 1:
            raise ValueError(
                f"Only layers from 1 on have a layer below to be seeded from; got {self.layers}."
            )
        if clip is not None and not clip > 0:
            raise ValueError(f"clip is {clip}, but must be positive; write null for no clipping.")
        if not alpha_lr >= 0:
            raise ValueError(f"alpha_lr is {alpha_lr}, but must be 0 (fixed gates) or positive (trained).")
        self.alpha_lr, self.norm, self.detach, self.clip = alpha_lr, norm, detach, clip
        logits = torch.full((len(self.layers), n_gate), float(alpha), dtype=torch.float32)
        if alpha_lr > 0:
            self.alpha = nn.Parameter(logits)
        else:
            self.register_buffer("alpha", logits)

    @classmethod
    def from_form(cls, form: Mapping[str, Any], n_head: int) -> FutureSeed | None:
        """The variant of a canonical form, or None for the baseline (gate "none").

        Raises ValueError for an unknown gate and what __init__ refuses, KeyError for a missing field.
        """
        gate = form["gate"]
        if gate == "none":
            return None
        if gate not in ("scalar", "head"):
            raise ValueError(f"The gate of a variant is none, scalar or head; got {gate!r}.")
        return cls(
            multipliers={int(layer): multiplier for layer, multiplier in form["layers"].items()},
            n_gate=n_head if gate == "head" else 1,
            alpha=form["alpha"],
            alpha_lr=form["alpha_lr"],
            norm=form["norm"],
            detach=form["detach"],
            clip=form["clip"],
        )

    def seed(self, layer: int, captured: Tensor) -> Tensor:
        """The start state of `layer` from the state captured in the layer below, both [B, H, N, N]."""
        row = self.layers.index(layer)
        gate = torch.sigmoid(self.alpha[row]) * self.multipliers[row]
        source = captured.detach() if self.detach else captured
        return future_seed(source, gate, norm=self.norm, clip=self.clip)
