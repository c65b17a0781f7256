"""How an attempt's parameters move: AdamW in its groups, clipped, at the rate of the schedule.

The parameters are the float32 masters, whatever precision the network computes in: their gradients, what
AdamW remembers of them, and every step are float32.

Deliberately not here: losses and their gradients, and how many steps there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch._dynamo  # what the first step of an optimizer imports: a forked worker must find it
from torch import Tensor

from fsearch.rwkv7 import parameter_groups
from fsearch.train.network import Network
from fsearch.train.recipe import Recipe, lr_factor


class Optimization:
    """The optimizer of one attempt over `steps` steps."""

    def __init__(self, network: Network, recipe: Recipe, steps: int) -> None:
        self._recipe, self._steps = recipe, steps
        groups = parameter_groups(network.model, network.future_seed, recipe.lr, recipe.weight_decay)
        gates = [] if network.future_seed is None else list(network.future_seed.parameters())
        self._clipped_together = [list(network.model.parameters())] + ([gates] if gates else [])
        self._base_lrs: list[float] = [group["lr"] for group in groups]
        self._optimizer = torch.optim.AdamW(groups, betas=recipe.betas, fused=True)

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self._optimizer.zero_grad()

    def update(self, step: int, loss: Tensor) -> None:
        """Make step `step`, counted from 0, with the gradients that have been summed up.

        Of a loss that is not finite nothing moves; whether it is, the device sees by itself, unwaited for.
        """
        if self._recipe.grad_clip is not None:
            # Apart from each other: the gradient of a trained gate must not change the model's step.
            for parameters in self._clipped_together:
                torch.nn.utils.clip_grad_norm_(parameters, self._recipe.grad_clip)
        factor = lr_factor(self._recipe, step, self._steps)
        for group, lr in zip(self._optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * factor
        # By this name torch's fused optimizers know that a step is to be left out.
        self._optimizer.found_inf = loss.isfinite().logical_not().float()  # type: ignore[attr-defined]
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """What AdamW remembers, for a checkpoint."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._optimizer.load_state_dict(dict(state))
