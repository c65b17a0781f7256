"""The operators of csrc/fused.h: their formulas in plain torch, and random arguments of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import relative_error

OPERATORS = ("mix of one", "mix of six", "keys", "readout", "squared_relu")

# Relative errors against float64. Beside bfloat16 the links of a chain are rounded one after another.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 6e-3}


def mixed(x: Tensor, *mixes: Tensor) -> list[Tensor]:
    """Each row with the one before it: x [B,T,C], mixes of C numbers."""
    before = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1)
    return [torch.lerp(x, before, mix.expand_as(x)).flatten(0, 1) for mix in mixes]


def keys(k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor, head_size: int) -> list[Tensor]:
    """forget, relearn, learn, of k and rate [M,C]."""
    kk = F.normalize((k * k_k.flatten()).view(len(k), -1, head_size), dim=-1).view_as(k)
    return [-kk, kk * rate, k * (1 + (rate - 1) * k_a.flatten())]


def readout(
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
) -> list[Tensor]:
    """What the output matrix reads, of rows [M,C]."""
    normed = F.group_norm(y, y.shape[1] // head_size, weight, bias, eps)
    bonus = (r * k * r_k.flatten()).view(len(r), -1, head_size).sum(-1).repeat_interleave(head_size, 1) * v
    return [(normed + bonus) * gate]


def squared_relu(x: Tensor) -> list[Tensor]:
    """Of rows [M,C]."""
    return [x.relu().square()]


FORMULAS = {"shift_mix": mixed, "keys": keys, "readout": readout, "squared_relu": squared_relu}


@dataclass(frozen=True)
class Case:
    """A call: `rows` are activations, `channels` parameters of C numbers each, `settings` the rest."""

    operator: str
    rows: tuple[Tensor, ...]
    channels: tuple[Tensor, ...]
    settings: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The operator's in a library."""
        return "shift_mix" if self.operator.startswith("mix") else self.operator

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As `fsearch::...` takes them."""
        channels = (list(self.channels),) if self.name == "shift_mix" else self.channels
        return (*self.rows, *channels, *self.settings)

    def forward(self, library: Any) -> list[Tensor]:
        """The outputs by `library`, which is torch.ops.fsearch or has functions of the same names."""
        found = getattr(library, self.name)(*self.arguments)
        return [found] if isinstance(found, Tensor) else list(found)

    def backward(self, library: Any, upstream: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the rows, and those of all channels, if any, as one [count,C], by `library`."""
        given = [list(upstream)] if self.name == "shift_mix" else upstream
        found = getattr(library, f"{self.name}_backward")(*given, *self.arguments)
        return [found] if isinstance(found, Tensor) else list(found)

    def upstream(self) -> list[Tensor]:
        """A random gradient for each output."""
        x = self.rows[0]
        outputs = {"mix of six": 6, "keys": 3}.get(self.operator, 1)
        source = torch.Generator().manual_seed(5)
        shape = (x.numel() // x.shape[-1], x.shape[-1])
        return [torch.randn(shape, generator=source).to(x.dtype) for _ in range(outputs)]

    def expected(self, upstream: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What `forward` and `backward` must give, by autograd in float64."""
        rows, channels = (
            [x.detach().double().requires_grad_() for x in xs] for xs in (self.rows, self.channels)
        )
        outputs = FORMULAS[self.name](*rows, *channels, *self.settings)
        found = torch.autograd.grad(outputs, rows + channels, [x.double() for x in upstream])
        sums = [torch.stack([x.flatten() for x in found[len(rows) :]])] if channels else []
        return [x.detach() for x in outputs], [*found[: len(rows)], *sums]

    def run(self, library: Any, upstream: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Outputs and gradients by `library`."""
        return [*self.forward(library), *self.backward(library, upstream or self.upstream())]

    def without_sums(self, found: list[Tensor]) -> list[Tensor]:
        """What `run` gives, but for the gradients of channels."""
        return found[:-1] if self.channels else found

    def to(self, dtype: torch.dtype) -> Case:
        """The same numbers in another precision; channels keep float32 beside bfloat16."""
        finer = torch.float32 if dtype == torch.bfloat16 else dtype
        rows, channels = tuple(x.to(dtype) for x in self.rows), tuple(x.to(finer) for x in self.channels)
        return replace(self, rows=rows, channels=channels)


def random_case(operator: str, B: int, T: int, H: int, N: int, seed: int = 0) -> Case:
    """Float64 arguments for B samples of T tokens, shaped like those that a model has."""
    source, C = torch.Generator().manual_seed(seed), H * N

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64)

    def some(count: int, *shape: int) -> tuple[Tensor, ...]:
        return tuple(normal(*shape) for _ in range(count))

    if operator == "keys":
        k, rate = normal(B * T, C), torch.sigmoid(normal(B * T, C))
        return Case(operator, (k, rate), some(2, 1, 1, C), (N,))
    if operator == "readout":
        channels = (normal(H, N), *some(2, C))
        return Case(operator, some(5, B * T, C), channels, (N, N * 1e-5))
    if operator == "squared_relu":
        return Case(operator, (normal(B * T, C),), ())
    return Case(operator, (normal(B, T, C),), some(6 if operator == "mix of six" else 1, 1, 1, C))


def assert_exact(case: Case, found: list[Tensor]) -> None:
    """What `Case.run` gave is right; rows have their own precision, sums over rows that of the channels."""
    dtype, outputs, gradients = case.rows[0].dtype, *case.expected(case.upstream())
    wanted = [*outputs, *gradients]
    assert [x.shape for x in found] == [x.shape for x in wanted]
    assert {x.dtype for x in case.without_sums(found)} == {dtype}
    assert not case.channels or found[-1].dtype == case.channels[0].dtype
    for x, want in zip(found, wanted, strict=True):
        assert relative_error(x, want) < TOLERANCE[dtype]
