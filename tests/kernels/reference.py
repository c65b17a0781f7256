"""The definition of the WKV7 operator, token by token in float64: what all implementations are held to.

Slow on purpose, and shares no code with the package. In float32 it shows what rounding alone does to a case.
"""

from __future__ import annotations

import torch
from torch import Tensor


def decay_of(x: Tensor, decay: str) -> Tensor:
    """The decay that the raw input `x` stands for."""
    if decay == "exp":
        return torch.exp(-torch.exp(x))
    return torch.exp(-torch.exp(torch.tensor(-0.5, dtype=x.dtype)) * torch.sigmoid(x))


def reference(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    s0: Tensor | None,
    p: Tensor | None,
    decay: str,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """y [B,T,H,N], cap (None without `p`) and sT [B,H,N,N], by the plain recurrence, one sample at a time."""
    r, w, k, v, a, b = (x.to(dtype) for x in (r, w, k, v, a, b))
    B, T, H, N = r.shape
    d = decay_of(w, decay)
    ys, caps, finals = [], [], []
    for n in range(B):
        S = torch.zeros(H, N, N, dtype=dtype) if s0 is None else s0[n].to(dtype)
        states, outputs = [S], []
        for t in range(T):
            u = torch.einsum("hij,hj->hi", S, a[n, t])
            S = (
                S * d[n, t][:, None, :]
                + torch.einsum("hi,hj->hij", u, b[n, t])
                + torch.einsum("hi,hj->hij", v[n, t], k[n, t])
            )
            states.append(S)
            outputs.append(torch.einsum("hij,hj->hi", S, r[n, t]))
        ys.append(torch.stack(outputs))
        finals.append(S)
        if p is not None:
            caps.append(states[int(p[n])])
    return torch.stack(ys), torch.stack(caps) if p is not None else None, torch.stack(finals)
