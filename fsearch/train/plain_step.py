"""A training step of RWKV-7 as one writes it in plain PyTorch, for `fsearch bench step --against plain`.

The published formulas one after another, left to autograd; the recurrence in its chunked form, as matrix
products; logits at every position; AdamW and clipping as torch has them by default. It computes what
`fsearch.train.network` computes for the baseline, with the parameters of the same model.

Deliberately not here: Future-Seed, and anything that would make it faster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsearch.kernels import wkv7_fs
from fsearch.rwkv7 import RWKV7, parameter_groups
from fsearch.rwkv7.model import Block, ChannelMix, TimeMix
from fsearch.train.batches import Batch
from fsearch.train.network import Network
from fsearch.train.recipe import Recipe, lr_factor

NO_TARGET = -100


class PlainStep:
    """Steps over one batch, part by part: `forward`, `backward`, `update`. `loss` is that of the last one."""

    def __init__(self, network: Network, recipe: Recipe, steps: int, batch: Batch) -> None:
        self._model = network.model
        self._recipe, self._steps, self._step = recipe, steps, 0
        self._tokens = network.tensor(batch.tokens)
        self._targets = torch.full((batch.tokens.size,), NO_TARGET, device=network.device)
        self._targets[network.tensor(batch.positions)] = network.tensor(batch.targets)
        groups = parameter_groups(self._model, None, recipe.lr, recipe.weight_decay)
        self._base_lrs = [group["lr"] for group in groups]
        self._optimizer = torch.optim.AdamW(groups, betas=recipe.betas)
        self.loss = torch.zeros(())

    def forward(self) -> None:
        """Logits at every position and the mean cross-entropy at those that have a target."""
        self._optimizer.zero_grad()
        logits = plain_logits(self._model, self._tokens)
        self.loss = F.cross_entropy(logits.flatten(0, 1).float(), self._targets, ignore_index=NO_TARGET)

    def backward(self) -> None:
        """The gradients."""
        self.loss.backward()  # type: ignore[no-untyped-call]
        self.loss = self.loss.detach()

    def update(self) -> None:
        """Clipping and AdamW, at the rate of the schedule."""
        if self._recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.grad_clip)
        factor = lr_factor(self._recipe, min(self._step, self._steps - 1), self._steps)
        for group, lr in zip(self._optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * factor
        self._optimizer.step()
        self._step += 1


def plain_logits(model: RWKV7, tokens: Tensor) -> Tensor:
    """Logits [B, T, V] for tokens [B, T], in the model's compute dtype."""
    x = F.embedding(tokens, model.emb.weight).to(model.compute_dtype or model.emb.weight.dtype)
    v_first: Tensor | None = None
    for block in model.blocks:
        assert isinstance(block, Block)
        if block.layer == 0:
            x = _norm(x, block.ln0)
        mixed, v_first = _time_mix(_norm(x, block.ln1), block.att, v_first)
        x = x + mixed
        x = x + _channel_mix(_norm(x, block.ln2), block.ffn)
    return _linear(_norm(x, model.ln_out), model.head.weight)


def _time_mix(x: Tensor, att: TimeMix, v_first: Tensor | None) -> tuple[Tensor, Tensor]:
    B, T, C = x.shape
    heads, low, full = (B, T, att.n_head, att.head_size), x.dtype, att.w0.dtype
    shift = _shifted(x) - x
    xr, xw, xk, xv, xa, xg = (
        x + shift * mix.to(low) for mix in (att.x_r, att.x_w, att.x_k, att.x_v, att.x_a, att.x_g)
    )
    r, k, v = _linear(xr, att.receptance.weight), _linear(xk, att.key.weight), _linear(xv, att.value.weight)
    w = att.w0 + torch.tanh(xw @ att.w1.to(low)).to(full) @ att.w2
    rate = torch.sigmoid(att.a0.to(low) + (xa @ att.a1.to(low)) @ att.a2.to(low))
    gate = torch.sigmoid(xg @ att.g1.to(low)) @ att.g2.to(low)
    if v_first is None:
        v_first = v
    else:
        residual = torch.sigmoid(att.v0.to(low) + (xv @ att.v1.to(low)) @ att.v2.to(low))
        v = v + (v_first - v) * residual
    kk = F.normalize((k.to(full) * att.k_k).view(heads), dim=-1).view(B, T, C)
    b = (kk * rate.to(full)).to(low)
    k = (k.to(full) * (1 + (rate.to(full) - 1) * att.k_a)).to(low)
    r, w, k, v, a, b = (z.view(heads) for z in (r, w, k, v, (-kk).to(low), b))
    y, _, _ = wkv7_fs(r=r, w=w, k=k, v=v, a=a, b=b, impl="chunked")
    normed = F.group_norm(
        y.to(full).reshape(B * T, C), att.n_head, att.ln_x.weight, att.ln_x.bias, att.ln_x.eps
    )
    bonus = (r * k * att.r_k.to(low)).sum(-1, keepdim=True) * v
    y = (normed.to(low).view(B, T, C) + bonus.view(B, T, C)) * gate
    return _linear(y, att.output.weight), v_first


def _channel_mix(x: Tensor, ffn: ChannelMix) -> Tensor:
    xk = x + (_shifted(x) - x) * ffn.x_k.to(x.dtype)
    return _linear(torch.relu(_linear(xk, ffn.key.weight)) ** 2, ffn.value.weight)


def _shifted(x: Tensor) -> Tensor:
    """x one token later, zeros first."""
    return F.pad(x, (0, 0, 1, -1))


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype))


def _norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x.to(norm.weight.dtype), norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(
        x.dtype
    )
