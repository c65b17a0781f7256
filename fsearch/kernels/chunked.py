"""The portable form of the WKV7 operator: chunked matrix products in plain PyTorch and its autograd.

It runs on every device and in both precisions: the stand-in wherever the compiled kernel is missing. It
checks nothing (`fsearch.kernels.operator` does) and it is not fast on small shapes.

Within a chunk of L tokens the recurrence is solved in closed form (the WY-like form of a recurrence whose
transition is diagonal plus low rank); only two small products per chunk are serial. Every sample's chunk grid
is cut at its own `p`, so the captured state always lies between two chunks and no token after `p` takes part
in computing it.

The decay factors of a chunk are centred on a token in its middle, so a later token of the chunk can change
an earlier output by rounding (1e-7 in fp32). In the compiled kernel it changes nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Decay factors inside a chunk reach exp(L/2 * |log decay|), which must stay below the fp32 limit exp(88).
# "sigmoid" has log decays in (-0.61, 0): any chunk is safe. "exp" is unbounded: short chunks, and the decay
# is held at exp(-20) = 2e-9, below the resolution of fp32.
_CHUNK = {"sigmoid": 16, "exp": 8}
_LOWEST_LOG_DECAY = -20.0


def wkv7_chunked(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    s0: Tensor | None,
    p: Tensor | None,
    decay: str,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The operator of `fsearch.kernels.wkv7_fs`, same shapes: y [B,T,H,N], cap and sT [B,H,N,N].

    The arguments must already be valid; `p` holds int64 counts. `cap` is None when `p` is None.
    """
    B, T, H, N = r.shape
    L = _CHUNK[decay]
    slots, num_chunks, cut = _grid(T, p, L)

    def chunks(x: Tensor) -> Tensor:  # [B,T,H,N] -> [B,H,C,L,N]; the slots no token occupies are zero
        if slots is None:
            x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, num_chunks * L - T))
        else:
            target = slots[:, :, None, None].expand(B, T, H, N)
            x = x.new_zeros(B, num_chunks * L, H, N).scatter(1, target, x)
        return x.transpose(1, 2).reshape(B, H, num_chunks, L, N)

    # An empty slot has zero log decay and zero r, k, v, a, b: it leaves the state as it is.
    R, logs, K, V, A, Bm = (chunks(x) for x in (r, log_decay(w, decay), k, v, a, b))
    c = _running_sum(logs)  # [B,H,C,L,N], through token t
    before = c - logs  # through token t - 1
    centre = c[..., L // 2 - 1 : L // 2, :]  # halves the exponents of the products below
    last = c[..., -1:, :]
    grow = torch.exp(centre - c)
    a_mid, r_mid = A * torch.exp(before - centre), R * torch.exp(c - centre)
    k_mid, b_mid = (K * grow).mT, (Bm * grow).mT
    fade = torch.exp(last - c)
    k_end, b_end = K * fade, Bm * fade
    a_start, r_start = A * torch.exp(before), R * torch.exp(c)

    # Select, never multiply by a mask: the entries above the diagonal may be infinite.
    t = torch.arange(L, device=r.device)
    earlier, upto = t[:, None] > t, t[:, None] >= t
    zero = r.new_zeros(())
    m_ab, m_ak = (torch.where(earlier, a_mid @ x, zero) for x in (b_mid, k_mid))
    m_rb, m_rk = (torch.where(upto, r_mid @ x, zero) for x in (b_mid, k_mid))

    eye = torch.eye(L, dtype=r.dtype, device=r.device)
    solved = torch.linalg.solve_triangular(
        eye - m_ab, torch.cat([a_start, m_ak @ V], -1), upper=False, unitriangular=True
    )
    w_u, u_0 = solved[..., :N], solved[..., N:]
    v_k = V.mT @ k_end  # [B,H,C,N,N]
    keep = torch.exp(last)

    S = r.new_zeros(B, H, N, N) if s0 is None else s0
    cap = S if p is not None else None
    starts, us = [], []
    # Unbound once: each x[:, :, i] would cost the backward pass a gradient as large as x.
    by_chunk = zip(*(x.unbind(2) for x in (u_0, w_u, keep, v_k, b_end)), strict=True)
    for i, (u_0_i, w_u_i, keep_i, v_k_i, b_end_i) in enumerate(by_chunk):
        U = u_0_i + w_u_i @ S.mT  # [B,H,L,N]
        starts.append(S)
        us.append(U)
        S = S * keep_i + v_k_i + U.mT @ b_end_i
        if cap is not None and cut is not None:
            cap = torch.where((cut == i + 1)[:, None, None, None], S, cap)

    Y = r_start @ torch.stack(starts, 2).mT + m_rk @ V + m_rb @ torch.stack(us, 2)
    y = Y.reshape(B, H, num_chunks * L, N).transpose(1, 2)  # [B,C*L,H,N]
    y = y[:, :T] if slots is None else y.gather(1, slots[:, :, None, None].expand(B, T, H, N))
    return y.contiguous(), cap, S


def _running_sum(x: Tensor) -> Tensor:
    """Sums over the tokens of a chunk up to each, x [..., L, N].

    On a GPU torch's own has no fixed order and is refused where equal runs are asked to give equal numbers.
    """
    if x.device.type == "cpu":
        return x.cumsum(-2)
    return x.new_ones(x.shape[-2], x.shape[-2]).tril() @ x


def log_decay(x: Tensor, decay: str) -> Tensor:
    """Log of the decay the raw input `x` stands for, elementwise; never below -20 for "exp"."""
    if decay == "sigmoid":
        # Not through sigmoid(x): its gradient takes 1 - sigmoid(x), which loses digits.
        return -torch.exp(torch.nn.functional.logsigmoid(x) - 0.5)
    # The input is held, not the result: the gradient of an overflowing exp would be 0 * inf.
    return -torch.exp(x.clamp(max=math.log(-_LOWEST_LOG_DECAY)))


def _grid(T: int, p: Tensor | None, L: int) -> tuple[Tensor | None, int, Tensor | None]:
    """Slot of every token [B,T], number of chunks, and the chunk count at which each sample is cut [B].

    Tokens [0,p) fill chunks from their start, tokens [p,T) begin a new chunk. Without `p`: no slots, no cut.
    """
    if p is None:
        return None, -(-T // L), None
    t = torch.arange(T, device=p.device)
    cut = (p + L - 1) // L
    slots = torch.where(t < p[:, None], t, t + (cut * L - p)[:, None])
    return slots, -(-T // L) + 1, cut
