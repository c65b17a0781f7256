"""A training step of flash-linear-attention's RWKV-7, for `fsearch bench step --against fla`.

Their model with the parameters of ours, set up as it is fastest at our precision: activations and weights in
the precision that is asked for, beside masters in float32; their fused layers, kernels and cross-entropy;
logits at the targets alone, as ours; our clipping and our fused AdamW, so that models are compared and not
optimizers. Without torch's deterministic algorithms, which their users leave off.

In bf16 their decay, adapters and norms are bf16 too, where ours keep parameters and some activations in
float32: the difference is theirs to gain from.

Names and shapes are those of flash-linear-attention 0.6.0. It is imported when it is asked for.

Deliberately not here: Future-Seed, which their kernels have no capture for.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fsearch.rwkv7 import RWKV7
from fsearch.train.batches import Batch
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Recipe

_NAMES = (
    (r"^emb\.", "model.embeddings."),
    (r"^blocks\.", "model.layers."),
    (r"^ln_out\.", "model.norm."),
    (r"^head\.", "lm_head."),
    (r"\.ln0\.", ".pre_norm."),
    (r"\.ln1\.", ".attn_norm."),
    (r"\.ln2\.", ".ffn_norm."),
    (r"\.att\.ln_x\.", ".att.g_norm."),
    (r"\.att\.receptance\.", ".att.r_proj."),
    (r"\.att\.key\.", ".att.k_proj."),
    (r"\.att\.value\.", ".att.v_proj."),
    (r"\.att\.output\.", ".att.o_proj."),
    (r"\.([wavg])0$", r".\1_lora.lora.2.bias"),
    (r"\.([wavg])1$", r".\1_lora.lora.0.weight"),
    (r"\.([wavg])2$", r".\1_lora.lora.2.weight"),
    (r"\.att\.", ".attn."),
)
"""What in the name of a parameter of ours is called what in theirs, one after another."""

_FACTOR = re.compile(r"\.[wavg][12]$")
"""Of an adapter: stored [in, out] by us, [out, in] by them."""


def refuse(device: torch.device) -> None:
    """Raises ValueError, with a sentence for a person, if their step cannot be made on a device."""
    if device.type != "cuda":
        raise ValueError("--against fla needs a GPU: its kernels are Triton's. Say --device cuda:0.")
    try:
        _fla("models.rwkv7")
    except Exception as error:  # whatever somebody else's modules raise
        raise ValueError(
            f"--against fla needs flash-linear-attention, which cannot be imported ({type(error).__name__}: "
            f"{error}). Say `pip install flash-linear-attention`, or leave it out."
        ) from error


def version() -> str:
    """Which flash-linear-attention is installed."""
    return str(importlib.import_module("fla").__version__)


class FlaStep:
    """Steps over one batch, part by part: `forward`, `backward`, `update`. `loss` is that of the last one.

    The parameters that move are the network's own. Theirs are the same memory in float32, and in bf16
    copies, made anew in each forward pass.
    """

    def __init__(self, network: Network, recipe: Recipe, steps: int, batch: Batch) -> None:
        own = network.model
        dtype = own.compute_dtype or own.emb.weight.dtype
        self._masters = dict(own.named_parameters())
        self._weights = {name: value.detach().to(dtype) for name, value in self._masters.items()}
        self._copied = dtype != own.emb.weight.dtype
        self._model = fla_model(own, self._weights)
        self._cross_entropy = _fla("modules.fused_cross_entropy").cross_entropy_loss
        self._tokens, self._targets = network.tensor(batch.tokens), network.tensor(batch.targets)
        self._positions = network.tensor(batch.positions)
        self._optimization, self._steps, self._step = Optimization(network, recipe, steps), steps, 0
        self.loss = torch.zeros(())

    def forward(self) -> None:
        """The mean cross-entropy at the targets."""
        self._optimization.zero_grad()
        if self._copied:
            torch._foreach_copy_(list(self._weights.values()), list(self._detached_masters()))
        with _as_their_users_do():
            hidden = self._model.model(input_ids=self._tokens, use_cache=False)[0]  # [B, T, C]
            logits = self._model.lm_head(hidden.flatten(0, 1).index_select(0, self._positions))
            losses, _ = self._cross_entropy(logits=logits, target=self._targets, inplace_backward=True)
            self.loss = losses.mean()

    def backward(self) -> None:
        """The gradients, handed to the masters in their precision."""
        with _as_their_users_do():
            self.loss.backward()  # type: ignore[no-untyped-call]
        self.loss = self.loss.detach()
        gradients = self._gradients()
        if self._copied:
            full = [torch.empty_like(value) for value in self._detached_masters()]
            torch._foreach_copy_(full, gradients)
            gradients = full
        for master, gradient in zip(self._masters.values(), gradients, strict=True):
            master.grad = gradient

    def update(self) -> None:
        """Clipping and AdamW, at the rate of the schedule."""
        self._optimization.update(min(self._step, self._steps - 1), self.loss)
        self._step += 1

    def _detached_masters(self) -> Iterator[Tensor]:
        return (value.detach() for value in self._masters.values())

    def _gradients(self) -> list[Tensor]:
        """Theirs, in the shapes and the order of our parameters; their model has none any more."""
        theirs = dict(self._model.named_parameters())
        found = []
        for name, master in self._masters.items():
            gradient = theirs[their_name(name)].grad
            found.append(gradient.t() if _FACTOR.search(name) else gradient.view(master.shape))
        self._model.zero_grad()
        return found


def their_name(name: str) -> str:
    """What a parameter of ours is called in their model."""
    for ours, theirs in _NAMES:
        name = re.sub(ours, theirs, name)
    return name


def fla_model(model: RWKV7, weights: Mapping[str, Tensor]) -> Any:
    """Their model of the same architecture, whose parameters are `weights`, by our names: the same memory.

    Raises RuntimeError if a name or a shape of theirs is another than we think.
    """
    rwkv7 = _fla("models.rwkv7")
    ranks = {letter: weights[f"blocks.1.att.{letter}1"].shape[1] for letter in "wavg"}
    config = rwkv7.RWKV7Config(
        vocab_size=model.vocab_size,
        hidden_size=model.n_embd,
        intermediate_size=4 * model.n_embd,
        num_hidden_layers=model.n_layer,
        head_dim=model.head_size,
        decay_low_rank_dim=ranks["w"],
        a_low_rank_dim=ranks["a"],
        v_low_rank_dim=ranks["v"],
        gate_low_rank_dim=ranks["g"],
        use_l2warp=False,  # which is none of the loss
        use_cache=False,
    )
    with torch.device("meta"):  # without initial values, which would take longer than the measurement
        made = rwkv7.RWKV7ForCausalLM(config)
    shapes = {name: value.shape for name, value in made.state_dict().items()}
    state = {}
    for name, value in weights.items():
        theirs = their_name(name)
        turned = _FACTOR.search(name) or theirs not in shapes
        state[theirs] = value.t() if turned else value.view(shapes[theirs])
    made.load_state_dict(state, assign=True)
    return made


def _fla(module: str) -> Any:
    return importlib.import_module(f"fla.{module}")


@contextmanager
def _as_their_users_do() -> Iterator[None]:
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)
