"""The compiled operator as Python sees it: the call, and its fake kernels, which know only shapes.

Gradients are in the library itself. The operators exist only once `fsearch.kernels.load` has loaded it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHECKPOINT_EVERY = 32  # as in csrc/wkv7_cpu.h


def wkv7_compiled(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    s0: Tensor | None,
    p: Tensor | None,
    decay: str,
    return_final: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The operator of `fsearch.kernels.wkv7_fs` on CPU tensors; the arguments must already be valid."""
    result: tuple[Tensor, Tensor | None, Tensor | None] = torch.ops.fsearch.wkv7.default(
        r, w, k, v, a, b, s0, p, decay == "sigmoid", return_final
    )
    return result


def register() -> None:
    """Declare the fake kernels; once per process, after the library was loaded."""
    torch.library.register_fake("fsearch::wkv7_forward", _fake_forward)
    torch.library.register_fake("fsearch::wkv7_backward", _fake_backward)


def _fake_forward(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    s0: Tensor | None,
    p: Tensor | None,
    sigmoid: bool,
    return_final: bool,
    save_checkpoints: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, H, N = r.shape
    saved = (T - 1) // _CHECKPOINT_EVERY if save_checkpoints else 0
    return (
        r.new_empty(r.shape),
        r.new_empty(0 if p is None else (B, H, N, N)),
        r.new_empty((B, H, N, N) if return_final else 0),
        r.new_empty(B * H, saved, N, N),
    )


def _fake_backward(
    dy: Tensor | None,
    dcap: Tensor | None,
    dfinal: Tensor | None,
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    s0: Tensor | None,
    p: Tensor | None,
    checkpoints: Tensor,
    sigmoid: bool,
    need_ds0: bool,
) -> tuple[Tensor, ...]:
    B, _, H, N = r.shape
    ds0 = r.new_empty((B, H, N, N) if need_ds0 else 0)
    return *(r.new_empty(r.shape) for _ in range(6)), ds0
