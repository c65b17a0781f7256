"""Random arguments for the operator, shaped like those a model makes: normalised keys, gates in (0,1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NAMES = ("r", "w", "k", "v", "a", "b", "s0")

# Relative errors against the float64 reference of the same numbers: what single precision must keep.
TOLERANCE = {"y": 2e-6, "cap": 2e-6, "sT": 2e-6, "s0": 2e-6, "r": 2e-6, "k": 2e-6, "v": 2e-6} | {
    "a": 1e-5,
    "b": 1e-5,
    "w": 1e-5,
}


# The same for bfloat16 tensors: states stay in float32, everything else is rounded once, at the end.
BF16_TOLERANCE = dict.fromkeys(("y", "r", "k", "v", "a", "b", "w"), 3e-3) | dict.fromkeys(
    ("cap", "sT", "s0"), 1e-5
)

# The same for the chunked CUDA kernels, whose matrix products take bfloat16 and add up in float32.
CHUNKED_TOLERANCE = dict.fromkeys(("y", "r", "k", "v"), 6e-3) | {
    "cap": 4e-3,
    "sT": 4e-3,
    "s0": 5e-3,
    "a": 1e-2,
    "b": 1e-2,
    "w": 2e-2,
}
# Theirs for runs of identical tokens, where two gradients are small differences of large numbers.
IDENTICAL_TOKENS_TOLERANCE = CHUNKED_TOLERANCE | {"a": 5e-2, "b": 3e-1}


@dataclass(frozen=True)
class Case:
    """Arguments of one call: `tensors` are r, w, k, v, a, b [B,T,H,N] and s0 [B,H,N,N]; p is [B] or None."""

    tensors: tuple[Tensor, ...]
    p: Tensor | None
    decay: str = "sigmoid"

    def to(self, dtype: torch.dtype) -> Case:
        """The same numbers in another precision; the state keeps float32 beside bfloat16."""
        *six, s0 = (x.detach() for x in self.tensors)
        state = torch.float32 if dtype == torch.bfloat16 else dtype
        return replace(self, tensors=(*(x.to(dtype) for x in six), s0.to(state)))

    def with_grad(self) -> Case:
        return replace(self, tensors=tuple(x.detach().clone().requires_grad_() for x in self.tensors))


def random_case(
    B: int,
    T: int,
    H: int,
    N: int,
    *,
    seed: int = 0,
    decay: str = "sigmoid",
    x: tuple[float, float] = (-6.0, 3.0),
    p: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """A case with decay inputs uniform in `x`; `p` is random for each sample unless given."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    def uniform() -> Tensor:
        return torch.rand(B, T, H, N, generator=source, dtype=torch.float64)

    key = torch.nn.functional.normalize(normal(B, T, H, N), dim=-1)
    w = x[0] + (x[1] - x[0]) * uniform()
    r, k, v = normal(B, T, H, N) / 2, normal(B, T, H, N) / 2, normal(B, T, H, N)
    tensors = (r, w, k, v, -key, key * uniform(), normal(B, H, N, N))
    if p is None:
        p = torch.randint(0, T + 1, (B,), generator=source)
    return Case(tuple(t.to(dtype) for t in tensors), p, decay)


def upstream(outputs: tuple[Tensor, ...], seed: int = 1) -> list[Tensor]:
    """A random gradient for each output, the same values in every precision: they are exact in bfloat16."""
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(y.shape, generator=source).bfloat16().to(y) for y in outputs]


def relative_error(x: Tensor, expected: Tensor) -> float:
    """||x - expected|| / ||expected||, and the plain norm of the difference where `expected` is zero."""
    scale = expected.norm().item()
    difference = (x.double() - expected.double()).norm().item()
    return difference / scale if scale > 0 else difference
