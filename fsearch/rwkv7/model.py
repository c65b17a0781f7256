"""RWKV-7 ("x070") as published, run over prompt and answer in one pass.

The reference is RWKV-LM, RWKV-v7/train_temp/src/model.py; parameters have its names and shapes. The
recurrence is `fsearch.kernels.wkv7_fs`, which also hands out the state at the end of each sample's own
prompt: with Future-Seed that state starts the layer above, within the same pass. So no padding enters a
state that is used, the token shift is continuous from prompt to answer, and no answer token can reach a
seed.

Activations may be of a lower precision than the parameters (`RWKV7.compute_dtype`): a parameter is cast where
the two meet, in the graph or within an operator of `fused`, so that its gradient has its own precision again.
In the parameters' precision stay layer and group norms, the normalisation of the keys, and the decay from its
adapter on; states are float32 in any case.

Not here: initial values (`init`), what is made of a captured state (`future_seed`), losses. A new model's
matrices are zero until `init.initialise` or a checkpoint fills them.

Shapes: B samples, T tokens, C channels = H heads of N, V words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fsearch.kernels import wkv7_fs
from fsearch.rwkv7.fused import keys, readout, squared_relu, token_shift_mix
from fsearch.rwkv7.future_seed import FutureSeed, last_of_prompt


@dataclass(frozen=True)
class Ranks:
    """Ranks of the adapters of decay (w), in-context rate (a), value residual (v) and gate (g)."""

    w: int
    a: int
    v: int
    g: int

    @classmethod
    def official(cls, n_embd: int) -> Ranks:
        """The reference's formula, but at most half the width: a tiny model's would not be low otherwise."""
        w, a, v, g = (max(32, 32 * round(x * n_embd**0.5 / 32)) for x in (2.5, 2.5, 1.7, 5.0))
        most = n_embd // 2
        return cls(min(w, most), min(a, most), min(v, most), min(g, most))


@dataclass(slots=True)
class LayerState:
    """What a layer carries from token to token; None before the first."""

    heads: Tensor | None = None  # [B, H, N, N], rows are values, columns are keys
    att_last: Tensor | None = None  # [B, C], the last input of the time mix
    ffn_last: Tensor | None = None  # [B, C], the last input of the channel mix


class Matrix(nn.Module):
    """A linear map without bias. Unlike nn.Linear it draws no random numbers when it is made."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_out, n_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Norm(nn.LayerNorm):
    """A layer norm in the precision of its parameters, whatever that of x is."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def _vector(n: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, 1, n))


def _table(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(rows, columns))


class TimeMix(nn.Module):
    """Where tokens meet: each head keeps a state, values by keys, that every token reads and rewrites."""

    def __init__(self, layer: int, n_embd: int, head_size: int, ranks: Ranks) -> None:
        super().__init__()
        c, self.n_head, self.head_size = n_embd, n_embd // head_size, head_size
        self.x_r, self.x_w, self.x_k = _vector(c), _vector(c), _vector(c)
        self.x_v, self.x_a, self.x_g = _vector(c), _vector(c), _vector(c)
        self.w0, self.w1, self.w2 = _vector(c), _table(c, ranks.w), _table(ranks.w, c)
        self.a0, self.a1, self.a2 = _vector(c), _table(c, ranks.a), _table(ranks.a, c)
        if layer > 0:  # layer 0 has no earlier value to fall back on
            self.v0, self.v1, self.v2 = _vector(c), _table(c, ranks.v), _table(ranks.v, c)
        self.g1, self.g2 = _table(c, ranks.g), _table(ranks.g, c)
        self.k_k, self.k_a, self.r_k = _vector(c), _vector(c), _table(self.n_head, head_size)
        self.receptance, self.key, self.value, self.output = (Matrix(c, c) for _ in range(4))
        self.ln_x = nn.GroupNorm(self.n_head, c, eps=head_size * 1e-5)

    def forward(
        self,
        x: Tensor,
        v_first: Tensor | None,
        state: Tensor | None,
        capture_at: Tensor | None,
        last: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns the output [B, T, C], layer 0's values, and the state after `capture_at` tokens or None.

        Takes x [B, T, C], layer 0's values [B*T, C] or None in layer 0, the start state [B, H, N, N] or None
        for zeros, `capture_at` [B] or None, and the input [B, C] before x's first or None for zeros.
        """
        rows, heads = (-1, x.shape[2]), (*x.shape[:2], self.n_head, self.head_size)
        low, full = x.dtype, self.w0.dtype

        mixes = (self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        xr, xw, xk, xv, xa, xg = token_shift_mix(x, *mixes, last=last)

        r, k, v = self.receptance(xr), self.key(xk), self.value(xv)
        w = torch.addmm(self.w0.view(-1), torch.tanh(xw @ self.w1.to(low)).to(full), self.w2)
        rate = torch.sigmoid(_adapted(xa, self.a0, self.a1, self.a2))
        gate = torch.sigmoid(xg @ self.g1.to(low)) @ self.g2.to(low)
        if v_first is None:
            v_first = v
        else:
            v = torch.lerp(v, v_first, torch.sigmoid(_adapted(xv, self.v0, self.v1, self.v2)))

        forget, relearn, learn = keys(k, rate, self.k_k, self.k_a, self.head_size)
        y, captured, _ = wkv7_fs(
            r=r.view(heads),
            w=w.view(heads),
            k=learn.view(heads),
            v=v.view(heads),
            a=forget.view(heads),
            b=relearn.view(heads),
            s0=state,
            p=capture_at,
        )
        norm = self.ln_x
        y = readout(y.view(rows), r, learn, v, gate, self.r_k, norm.weight, norm.bias, norm.eps)
        return self.output(y).view_as(x), v_first, captured


def _adapted(x: Tensor, offset: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
    """offset + x inner outer, in the precision of x: [M, C], [1, 1, C], [C, rank], [rank, C] -> [M, C]."""
    return torch.addmm(offset.to(x.dtype).view(-1), x @ inner.to(x.dtype), outer.to(x.dtype))


class ChannelMix(nn.Module):
    """Where channels meet: each token with its predecessor, a squared ReLU between two matrices."""

    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.x_k = _vector(n_embd)
        self.key, self.value = Matrix(n_embd, 4 * n_embd), Matrix(4 * n_embd, n_embd)

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """[B, T, C] -> [B, T, C]; `last` [B, C] is the input before x's first, or None for zeros."""
        (xk,) = token_shift_mix(x, self.x_k, last=last)
        y: Tensor = self.value(squared_relu(self.key(xk)))
        return y.view_as(x)


class Block(nn.Module):
    """One layer: time mix, then channel mix, each behind a layer norm and added to the residual stream."""

    def __init__(self, layer: int, n_embd: int, head_size: int, ranks: Ranks) -> None:
        super().__init__()
        self.layer = layer
        if layer == 0:
            self.ln0 = Norm(n_embd)
        self.ln1, self.ln2 = Norm(n_embd), Norm(n_embd)
        self.att, self.ffn = TimeMix(layer, n_embd, head_size, ranks), ChannelMix(n_embd)

    def forward(
        self,
        x: Tensor,
        v_first: Tensor | None,
        state: Tensor | None,
        capture_at: Tensor | None,
        carried: LayerState | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As TimeMix.forward, with the residual stream in and out.

        The token shifts go on from `carried`, which then becomes what is carried after `capture_at` tokens.
        """
        before = carried or LayerState()
        if self.layer == 0:
            x = self.ln0(x)
        z = self.ln1(x)
        mixed, v_first, captured = self.att(z, v_first, state, capture_at, before.att_last)
        if carried is not None and capture_at is not None:
            carried.heads, carried.att_last = captured, last_of_prompt(z, capture_at)
        x = x + mixed
        z = self.ln2(x)
        x = x + self.ffn(z, before.ffn_last)
        if carried is not None and capture_at is not None:
            carried.ffn_last = last_of_prompt(z, capture_at)
        return x, v_first, captured


class RWKV7(nn.Module):
    """The language model."""

    def __init__(
        self, n_layer: int, n_embd: int, head_size: int, vocab_size: int, ranks: Ranks | None = None
    ) -> None:
        """`ranks` default to the official ones. Raises ValueError if the heads do not divide the width."""
        super().__init__()
        if n_embd % head_size:
            raise ValueError(f"n_embd must be a multiple of head_size; got {n_embd} and {head_size}.")
        ranks = ranks or Ranks.official(n_embd)
        self.n_layer, self.n_embd, self.vocab_size = n_layer, n_embd, vocab_size
        self.n_head, self.head_size = n_embd // head_size, head_size
        self.compute_dtype: torch.dtype | None = None  # of activations; None for that of the parameters
        self.recompute = False  # of each layer keep what enters it, and run it again in the backward pass
        self.emb = Matrix(n_embd, vocab_size)
        self.blocks = nn.ModuleList(Block(i, n_embd, head_size, ranks) for i in range(n_layer))
        self.ln_out = Norm(n_embd)
        self.head = Matrix(n_embd, vocab_size)

    def hidden(
        self,
        tokens: Tensor,
        prompt_len: Tensor | None = None,
        future_seed: FutureSeed | None = None,
        carried: Sequence[LayerState] | None = None,
    ) -> Tensor:
        """What the head reads, [B, T, C]: `model.head(hidden[chosen])` gives logits where they are needed.

        `tokens` [B, T] are prompt and answer, right-padded; `prompt_len` [B] counts the prompt's. With a
        Future-Seed a seeded layer starts from the state of the layer below after those. Without a seeded
        layer nothing is captured, and the computation is the one without Future-Seed.

        `carried` is for `generate`: one state a layer, from which all but the seeded layers start, and which
        then becomes what the layer carries after `prompt_len` tokens, at least one.

        Raises ValueError if `prompt_len` is needed and None.
        """
        seeded = [] if future_seed is None else [i for i in future_seed.layers if i < self.n_layer]
        if prompt_len is None and (seeded or carried is not None):
            raise ValueError("Future-Seed needs prompt_len, the number of prompt tokens of each sample.")
        x = F.embedding(tokens, self.emb.weight)
        x = x.to(self.compute_dtype or x.dtype)
        v_first: Tensor | None = None
        captured: Tensor | None = None
        for i, block in enumerate(self.blocks):
            state, carries = (None, None) if carried is None else (carried[i].heads, carried[i])
            if future_seed is not None and captured is not None and prompt_len is not None and i in seeded:
                state = future_seed.seed(i, captured, x, prompt_len)
            capture_at = prompt_len if carries is not None or i + 1 in seeded else None
            if self.recompute and torch.is_grad_enabled() and carries is None:
                x, v_first, captured = checkpoint(
                    block, x, v_first, state, capture_at, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x, v_first, captured = block(x, v_first, state, capture_at, carries)
        hidden: Tensor = self.ln_out(x)
        return hidden

    def forward(
        self, tokens: Tensor, prompt_len: Tensor | None = None, future_seed: FutureSeed | None = None
    ) -> Tensor:
        """Logits [B, T, V]: `logits[:, t]` says what follows token t. Arguments as in `hidden`."""
        logits: Tensor = self.head(self.hidden(tokens, prompt_len, future_seed))
        return logits


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over every parameter's name, dtype, shape and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
