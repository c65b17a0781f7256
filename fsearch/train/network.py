"""The network an attempt trains: a checkpoint or seeded initial values, Future-Seed, precision, logits, loss.

Deliberately not here: the layers (fsearch.rwkv7), scores, and how the parameters move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fsearch.rwkv7 import RWKV7, FutureSeed, initialise
from fsearch.train.batches import Batch, Integers
from fsearch.train.model_file import load_inspected

LOGITS_AT_ONCE = 1 << 26
"""The most logits that exist at one moment, 256 MiB of float32: 1024 targets of 65536 words. The head's
matrix and its gradient are gone through once for each chunk; at fewer targets that would take time."""

_COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Network:
    """A model and the variant of Future-Seed it runs with (None: the baseline)."""

    model: RWKV7
    future_seed: FutureSeed | None

    @classmethod
    def from_job(cls, job: Mapping[str, Any], vocab_size: int) -> Network:
        """The network at step 0, from the job's checkpoint or from initial values for ids below `vocab_size`.

        Its parameters are float32 in any precision; `precision` is what it computes in. Raises ModelChanged
        for a checkpoint that is not the inspected one any more, and CheckpointError.
        """
        model = _model_at_step_0(job, vocab_size)
        model.compute_dtype = _COMPUTE_DTYPES[job["recipe"]["precision"]]
        model.recompute = job["recipe"].get("recompute") == "layers"
        return cls(model, FutureSeed.from_form(job["form"], model.n_head, model.n_embd))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.emb.weight.device

    def to(self, device: str) -> Network:
        """Move it, in place, and return it."""
        self.model.to(device)
        if self.future_seed is not None:
            self.future_seed.to(device)
        return self

    def tensor(self, array: Integers | NDArray[np.int32]) -> Tensor:
        """An array where the network computes; a GPU's copy is under way, and nobody waits for it."""
        made = torch.from_numpy(array)
        return made.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else made

    def hidden_at_targets(self, batch: Batch) -> Tensor:
        """What the head reads at the batch's K target positions, [K, C]; it is not run anywhere else."""
        tokens, prompt_len = self.tensor(batch.tokens), self.tensor(batch.prompt_len)
        hidden = self.model.hidden(tokens, prompt_len, self.future_seed)  # [B, T, C]
        at_targets: Tensor = hidden.flatten(0, 1).index_select(0, self.tensor(batch.positions))
        return at_targets

    def in_chunks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows [K, ...] in pieces of so many as the head may be run on at once, all equal but the last."""
        return torch.split(rows, max(1, LOGITS_AT_ONCE // self.model.vocab_size))

    def logits(self, at_targets: Tensor) -> Tensor:
        """Logits [K, V], float32, of rows [K, C], which are to be one chunk at most."""
        logits: Tensor = self.model.head(at_targets)
        return logits.float()

    def learn(self, batch: Batch, trained_tokens: int) -> Tensor:
        """Add the gradients of the batch's part of the mean cross-entropy over the `trained_tokens` of a step
        to the parameters'. Returns that part, in nats.
        """
        hidden = self.hidden_at_targets(batch)
        loss, d_hidden = self.learn_head(hidden, batch, trained_tokens)
        hidden.backward(d_hidden)  # type: ignore[no-untyped-call]
        return loss

    def learn_head(self, hidden: Tensor, batch: Batch, trained_tokens: int) -> tuple[Tensor, Tensor]:
        """The head's share of `learn`: the loss, and its gradient to `hidden` [K, C].

        Chunk by chunk, forwards and at once backwards: there are never more logits than those of one.
        """
        loss = torch.zeros((), device=self.device)
        d_hidden = []
        for rows, targets in zip(
            self.in_chunks(hidden.detach()), self.in_chunks(self.tensor(batch.targets)), strict=True
        ):
            rows.requires_grad_()
            part = F.cross_entropy(self.logits(rows), targets, reduction="sum") / trained_tokens
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
            assert rows.grad is not None
            d_hidden.append(rows.grad)
        return loss, torch.cat(d_hidden)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        seed = None if self.future_seed is None else self.future_seed.state_dict()
        return {"model": self.model.state_dict(), "future_seed": seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        if self.future_seed is not None:
            self.future_seed.load_state_dict(state["future_seed"])


def _model_at_step_0(job: Mapping[str, Any], vocab_size: int) -> RWKV7:
    """A checkpoint's model as it is, or a new one, whose random numbers come from the `init` stream alone."""
    if "checkpoint" in job["model"]:
        return load_inspected(job["model_file"])
    model = RWKV7(vocab_size=vocab_size, **job["model"]["init"])
    return initialise(model, torch.Generator().manual_seed(job["streams"]["init"]))
