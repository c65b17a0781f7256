"""The network an attempt trains: its model from seeded initial values, its Future-Seed, its logits.

Deliberately not here: the layers (fsearch.rwkv7), losses and scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fsearch.rwkv7 import RWKV7, FutureSeed, initialise
from fsearch.train.batches import Batch


@dataclass(frozen=True, slots=True)
class Network:
    """A model and the variant of Future-Seed it runs with (None: the baseline)."""

    model: RWKV7
    future_seed: FutureSeed | None

    @classmethod
    def from_job(cls, job: Mapping[str, Any], vocab_size: int) -> Network:
        """The network at step 0; its random numbers come from the job's `init` stream alone."""
        model = RWKV7(vocab_size=vocab_size, **job["model"]["init"])
        initialise(model, torch.Generator().manual_seed(job["streams"]["init"]))
        return cls(model, FutureSeed.from_form(job["form"], n_head=model.n_head))

    def logits_at_targets(self, batch: Batch) -> Tensor:
        """Logits [K, V] at the batch's target positions; the head is not run anywhere else."""
        tokens, prompt_len = torch.from_numpy(batch.tokens), torch.from_numpy(batch.prompt_len)
        hidden = self.model.hidden(tokens, prompt_len, self.future_seed)  # [B, T, C]
        at_targets: Tensor = hidden.flatten(0, 1).index_select(0, torch.from_numpy(batch.positions))
        logits: Tensor = self.model.head(at_targets)
        return logits

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        seed = None if self.future_seed is None else self.future_seed.state_dict()
        return {"model": self.model.state_dict(), "future_seed": seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        if self.future_seed is not None:
            self.future_seed.load_state_dict(state["future_seed"])
