"""RWKV-7 ("x070") as published, run over prompt and answer in one pass.

The reference is RWKV-LM, RWKV-v7/train_temp/src/model.py; parameters have its names and shapes. The
recurrence is `fsearch.kernels.wkv7_fs`, which also hands out the state at the end of each sample's own
prompt: with Future-Seed that state starts the layer above, within the same pass. So no padding enters a
state that is used, the token shift is continuous from prompt to answer, and no answer token can reach a
seed.

Not here: initial values (`init`), what is made of a captured state (`future_seed`), losses. A new model's
matrices are zero until `init.initialise` or a checkpoint fills them.

Shapes: B samples, T tokens, C channels = H heads of N, V words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsearch.kernels import wkv7_fs
from fsearch.rwkv7.fused import keys, squared_relu, token_shift_mix
from fsearch.rwkv7.future_seed import FutureSeed


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


class Matrix(nn.Module):
    """A linear map without bias. Unlike nn.Linear it draws no random numbers when it is made."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_out, n_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


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
        self, x: Tensor, v_first: Tensor | None, state: Tensor | None, capture_at: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns the output [B, T, C], layer 0's values, and the state after `capture_at` tokens or None.

        Takes x [B, T, C], layer 0's values [B*T, C] or None in layer 0, the start state [B, H, N, N] or None
        for zeros, and `capture_at` [B] or None.
        """
        rows, heads = (-1, x.shape[2]), (*x.shape[:2], self.n_head, self.head_size)
        xr, xw, xk, xv, xa, xg = token_shift_mix(
            x, self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g
        )

        r, k, v = self.receptance(xr), self.key(xk), self.value(xv)
        w = torch.addmm(self.w0.view(-1), torch.tanh(xw @ self.w1), self.w2)
        rate = torch.sigmoid(torch.addmm(self.a0.view(-1), xa @ self.a1, self.a2))
        gate = torch.sigmoid(xg @ self.g1) @ self.g2
        if v_first is None:
            v_first = v
        else:
            v = torch.lerp(v, v_first, torch.sigmoid(torch.addmm(self.v0.view(-1), xv @ self.v1, self.v2)))

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
        # Group norm is layer norm in each head, then one affine map; torch's own is slow for few channels.
        y = F.layer_norm(y, (self.head_size,), eps=self.ln_x.eps).view(rows)
        y = torch.addcmul(self.ln_x.bias, y, self.ln_x.weight)
        bonus = (r * learn * self.r_k.view(-1)).view(heads).sum(-1, keepdim=True) * v.view(heads)
        y = self.output((y + bonus.view(rows)) * gate)
        return y.view_as(x), v_first, captured


class ChannelMix(nn.Module):
    """Where channels meet: each token with its predecessor, a squared ReLU between two matrices."""

    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.x_k = _vector(n_embd)
        self.key, self.value = Matrix(n_embd, 4 * n_embd), Matrix(4 * n_embd, n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        (xk,) = token_shift_mix(x, self.x_k)
        y: Tensor = self.value(squared_relu(self.key(xk)))
        return y.view_as(x)


class Block(nn.Module):
    """One layer: time mix, then channel mix, each behind a layer norm and added to the residual stream."""

    def __init__(self, layer: int, n_embd: int, head_size: int, ranks: Ranks) -> None:
        super().__init__()
        self.layer = layer
        if layer == 0:
            self.ln0 = nn.LayerNorm(n_embd)
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.att, self.ffn = TimeMix(layer, n_embd, head_size, ranks), ChannelMix(n_embd)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: Tensor | None, capture_at: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As TimeMix.forward, with the residual stream in and out."""
        if self.layer == 0:
            x = self.ln0(x)
        mixed, v_first, captured = self.att(self.ln1(x), v_first, state, capture_at)
        x = x + mixed
        return x + self.ffn(self.ln2(x)), v_first, captured


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
        self.emb = Matrix(n_embd, vocab_size)
        self.blocks = nn.ModuleList(Block(i, n_embd, head_size, ranks) for i in range(n_layer))
        self.ln_out = nn.LayerNorm(n_embd)
        self.head = Matrix(n_embd, vocab_size)

    def hidden(
        self, tokens: Tensor, prompt_len: Tensor | None = None, future_seed: FutureSeed | None = None
    ) -> Tensor:
        """What the head reads, [B, T, C]: `model.head(hidden[chosen])` gives logits where they are needed.

        `tokens` [B, T] are prompt and answer, right-padded; `prompt_len` [B] counts the prompt's. With a
        Future-Seed a seeded layer starts from the state of the layer below after those. Without a seeded
        layer nothing is captured, and the computation is the one without Future-Seed. Raises ValueError if
        `prompt_len` is needed and None.
        """
        seeded = [] if future_seed is None else [i for i in future_seed.layers if i < self.n_layer]
        if seeded and prompt_len is None:
            raise ValueError("Future-Seed needs prompt_len, the number of prompt tokens of each sample.")
        x = F.embedding(tokens, self.emb.weight)
        v_first: Tensor | None = None
        captured: Tensor | None = None
        for i, block in enumerate(self.blocks):
            state = None if future_seed is None or captured is None else future_seed.seed(i, captured)
            x, v_first, captured = block(x, v_first, state, prompt_len if i + 1 in seeded else None)
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
