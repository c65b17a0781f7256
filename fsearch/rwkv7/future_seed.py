"""Future-Seed: layer i starts from what layer i-1 knew at the end of the prompt.

This module turns a captured state into a start state. Which state is captured, and when, is the model's
business; the variants' names and their schedules over depth are resolved into plain numbers before they
arrive here.

With S the state of layer i-1 after the prompt, one matrix a sample and head, the start state of layer i is

    Z = S                          detached, if asked: no gradient reaches the layer below through it
    Z = Z / max(rms(Z), 1e-6)      if asked; the rms is the matrix's own
    Z = Z * gate * m               m: the layer's fixed multiplier
    Z = clamp(Z, -clip, clip)      if asked

in this order. The last three are `fsearch.kernels.future_seed`. The gate is

    sigmoid(alpha)                                  scalar: one logit a layer; head: one a head
    sigmoid(alpha + <x, weight> / sqrt(C) + bias)   input: one a sample; x [C]: the residual stream that
                                                    enters layer i, at the sample's last prompt token
    sigmoid(alpha) * sigmoid(alpha_head)            the drafts' head gate: a scalar gate times one a head

An empty prompt has no last token; its x is zero. Detaching S leaves the gradient through x alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fsearch.kernels import future_seed

GATES = ("scalar", "head", "input")


class FutureSeed(nn.Module):
    """One variant of Future-Seed.

    `layers` are the seeded layers, ascending; every tensor has one row for each. `alpha` holds the gates'
    logits, float32: [layers, 1] for one gate a layer, [layers, H] for one a head. `weight` [layers, C] and
    `bias` [layers, 1] are the input gate's and start at 0; `alpha_head` [layers, H] is the drafts'. Each is a
    parameter if its learning rate is positive, and then stands in `learning_rates`; a buffer if it is 0.
    """

    alpha: Tensor
    alpha_head: Tensor  # where the form has it
    weight: Tensor  # with the input gate
    bias: Tensor  # with the input gate

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
        self.norm, self.detach, self.clip = norm, detach, clip
        self.learning_rates: dict[str, float] = {}
        self._add("alpha", n_gate, alpha, alpha_lr)

    @classmethod
    def from_form(cls, form: Mapping[str, Any], n_head: int, n_embd: int) -> FutureSeed | None:
        """The variant of a canonical form in a model of that size, or None for the baseline (gate "none").

        Raises ValueError for an unknown gate and what __init__ refuses, KeyError for a missing field.
        """
        gate = form["gate"]
        if gate == "none":
            return None
        if gate not in GATES:
            raise ValueError(f"The gate of a variant is none, {', '.join(GATES)}; got {gate!r}.")
        drafts = "alpha_head" in form
        made = cls(
            multipliers={int(layer): multiplier for layer, multiplier in form["layers"].items()},
            n_gate=n_head if gate == "head" and not drafts else 1,
            alpha=form["alpha"],
            alpha_lr=form["alpha_lr"],
            norm=form["norm"],
            detach=form["detach"],
            clip=form["clip"],
        )
        if drafts:
            made._add("alpha_head", n_head, form["alpha_head"], form["alpha_head_lr"])
        if gate == "input":
            made._add("weight", n_embd, 0.0, form["weight_lr"])
            made._add("bias", 1, 0.0, form["bias_lr"])
        return made

    def _add(self, name: str, width: int, value: float, lr: float) -> None:
        if not lr >= 0:
            raise ValueError(f"{name}_lr is {lr}, but must be 0 (fixed) or positive (trained).")
        values = torch.full((len(self.layers), width), float(value), dtype=torch.float32)
        if lr > 0:
            self.register_parameter(name, nn.Parameter(values))
            self.learning_rates[name] = lr
        else:
            self.register_buffer(name, values)

    def seed(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        """The start state of `layer`, [B, H, N, N].

        Takes the state captured in the layer below, [B, H, N, N], the residual stream that enters `layer`,
        x [B, T, C], and the number of each sample's prompt tokens, `prompt_len` [B].
        """
        row = self.layers.index(layer)
        logit = self.alpha[row]
        if hasattr(self, "weight"):
            last = last_of_prompt(x, prompt_len).to(logit.dtype)
            projected = (last * self.weight[row]).sum(-1, keepdim=True)  # [B, 1]
            logit = logit + projected / math.sqrt(x.shape[-1]) + self.bias[row]
        gate = torch.sigmoid(logit) * self.multipliers[row]
        if hasattr(self, "alpha_head"):
            gate = gate * torch.sigmoid(self.alpha_head[row])
        source = captured.detach() if self.detach else captured
        return future_seed(source, gate, norm=self.norm, clip=self.clip)


def last_of_prompt(x: Tensor, prompt_len: Tensor) -> Tensor:
    """x [B, T, C] at each sample's last prompt token, [B, C]; zeros where the prompt is empty."""
    samples = torch.arange(len(x), device=x.device)
    last: Tensor = x[samples, (prompt_len - 1).clamp_min(0)]
    return last * (prompt_len > 0).unsqueeze(-1)
