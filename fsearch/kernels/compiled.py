"""The compiled operators as Python sees them: the calls, and their fake kernels, which know only shapes.

Gradients are in the library itself. The operators exist only once `fsearch.kernels.load` has loaded it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Tokens between two saved states, as in csrc/wkv7_cpu.h, wkv7_cuda.h and wkv7_v2.h.
_CPU_CHECKPOINT_EVERY = 32
_CUDA_CHECKPOINT_EVERY = 128

# Tokens in a chunk of the chunked kernels, with a decay "sigmoid" or another; as in csrc/wkv7_v2.h.
_SIGMOID_CHUNK, _EXP_CHUNK = 32, 16


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
    chunked: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The operator of `fsearch.kernels.wkv7_fs`, on a device that the library has kernels for.

    The arguments must already be valid. `chunked`: by the chunked CUDA kernels, not the sequential ones.
    """
    result: tuple[Tensor, Tensor | None, Tensor | None] = torch.ops.fsearch.wkv7.default(
        r, w, k, v, a, b, s0, p, decay == "sigmoid", return_final, chunked
    )
    return result


def future_seed_compiled(captured: Tensor, gate: Tensor, norm: bool, clip: float | None) -> Tensor:
    """The operator of `fsearch.kernels.future_seed`, its gate [B,H]; the arguments must already be valid."""
    result: Tensor = torch.ops.fsearch.future_seed.default(captured, gate, norm, clip)
    return result


def shift_mix_compiled(x: Tensor, mixes: Sequence[Tensor]) -> list[Tensor]:
    """x [B,T,C] with 1 or 6 mixes of C numbers each: rows [B*T,C] for each (csrc/fused.h)."""
    rows: list[Tensor] = torch.ops.fsearch.shift_mix.default(x, mixes)
    return rows


def keys_compiled(
    k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor, head_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """forget, relearn and learn [M,C] from k and rate [M,C] (csrc/fused.h)."""
    three: tuple[Tensor, Tensor, Tensor] = torch.ops.fsearch.keys.default(k, rate, k_k, k_a, head_size)
    return three


def readout_compiled(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    r_k: Tensor,
    weight: Tensor,
    bias: Tensor,
    head_size: int,
    eps: float,
) -> Tensor:
    """What the output matrix reads [M,C], from rows [M,C] and channels (csrc/fused.h)."""
    rows: Tensor = torch.ops.fsearch.readout.default(y, r, k, v, gate, r_k, weight, bias, head_size, eps)
    return rows


def squared_relu_compiled(x: Tensor) -> Tensor:
    """relu(x).square() of rows [M,C]."""
    y: Tensor = torch.ops.fsearch.squared_relu.default(x)
    return y


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the states beside tensors r, k, v, a, b of this dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def register() -> None:
    """Declare the fake kernels; once per process, after the library was loaded."""
    torch.library.register_fake("fsearch::wkv7_forward", _fake_forward)
    torch.library.register_fake("fsearch::wkv7_backward", _fake_backward)
    torch.library.register_fake("fsearch::future_seed", _fake_future_seed)
    torch.library.register_fake("fsearch::future_seed_backward", _fake_future_seed_backward)
    torch.library.register_fake("fsearch::shift_mix", _fake_shift_mix)
    torch.library.register_fake("fsearch::shift_mix_backward", _fake_shift_mix_backward)
    torch.library.register_fake("fsearch::keys", _fake_keys)
    torch.library.register_fake("fsearch::keys_backward", _fake_keys_backward)
    torch.library.register_fake("fsearch::readout", _fake_readout)
    torch.library.register_fake("fsearch::readout_backward", _fake_readout_backward)
    torch.library.register_fake("fsearch::squared_relu", _fake_squared_relu)
    torch.library.register_fake("fsearch::squared_relu_backward", _fake_squared_relu)


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
    chunked: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, H, N = r.shape
    dtype = state_dtype(r.dtype)
    on_cuda = r.device.type == "cuda"  # where the state before token 0 is saved as well
    if on_cuda and chunked:
        L = _SIGMOID_CHUNK if sigmoid else _EXP_CHUNK
        saved = -(-(-(-T // L) + (p is not None)) * L // _CUDA_CHECKPOINT_EVERY)
    else:
        saved = -(-T // _CUDA_CHECKPOINT_EVERY) if on_cuda else (T - 1) // _CPU_CHECKPOINT_EVERY
    return (
        r.new_empty(r.shape),
        r.new_empty(0 if p is None else (B, H, N, N), dtype=dtype),
        r.new_empty((B, H, N, N) if return_final else 0, dtype=dtype),
        r.new_empty(
            B * H, saved if save_checkpoints else 0, N, N, dtype=r.dtype if on_cuda and chunked else dtype
        ),
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
    chunked: bool = False,
) -> tuple[Tensor, ...]:
    B, _, H, N = r.shape
    ds0 = r.new_empty((B, H, N, N) if need_ds0 else 0, dtype=state_dtype(r.dtype))
    return *(x.new_empty(x.shape) for x in (r, w, k, v, a, b)), ds0


def _fake_future_seed(captured: Tensor, gate: Tensor, norm: bool, clip: float | None) -> Tensor:
    return captured.new_empty(captured.shape)


def _fake_future_seed_backward(
    dseed: Tensor,
    captured: Tensor,
    gate: Tensor,
    norm: bool,
    clip: float | None,
    need_captured: bool,
    need_gate: bool,
) -> tuple[Tensor, Tensor]:
    return (
        captured.new_empty(captured.shape if need_captured else 0),
        gate.new_empty(gate.shape if need_gate else 0),
    )


def _fake_shift_mix(x: Tensor, mixes: Sequence[Tensor]) -> list[Tensor]:
    return [x.new_empty(x.shape).flatten(0, 1) for _ in mixes]


def _fake_shift_mix_backward(
    douts: Sequence[Tensor], x: Tensor, mixes: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _fake_sums(x, len(mixes))


def _fake_keys(k: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return k.new_empty(k.shape), k.new_empty(k.shape), k.new_empty(k.shape)


def _fake_keys_backward(dforget: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return dforget.new_empty(dforget.shape), dforget.new_empty(dforget.shape), _fake_sums(dforget, 2)


def _fake_readout(y: Tensor, *_: Any) -> Tensor:
    return y.new_empty(y.shape)


def _fake_readout_backward(dout: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return *(dout.new_empty(dout.shape) for _ in range(5)), _fake_sums(dout, 3)


def _fake_squared_relu(rows: Tensor, *_: Any) -> Tensor:
    return rows.new_empty(rows.shape)


def _fake_sums(rows: Tensor, count: int) -> Tensor:
    """The gradients of `count` parameters that have a number for each channel."""
    return rows.new_empty(count, rows.shape[-1], dtype=state_dtype(rows.dtype))
