"""Who competes in `fsearch bench kernel`, and on what.

Every contender does the same work, one Future-Seed pass: from r, w, k, v, a, b and an initial state it makes
the outputs and the state after the first p tokens, and from gradients of both those of all seven. What it
gives is put together as one call would give it, so that it can be compared.

Deliberately not here: measuring.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fsearch.kernels import wkv7_fs

INPUTS = ("r", "w", "k", "v", "a", "b", "s0")
RESULTS = ("y", "cap", *(f"d{name}" for name in INPUTS))

WRONG_ABOVE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Relative errors far above what rounding makes of a right result (1e-7 and 3e-3), far below what a mistake
makes of it."""

_LOWEST_LOG_DECAY = -math.exp(-0.5)


@dataclass(frozen=True)
class Shape:
    """Samples, tokens, heads, head size."""

    B: int
    T: int
    H: int
    N: int

    @property
    def p(self) -> int:
        """Tokens before the capture: half of them, at least one on either side if there are two."""
        return self.T // 2

    @property
    def token_heads(self) -> int:
        return self.B * self.T * self.H

    @property
    def size(self) -> int:
        """What the time of a pass grows with."""
        return self.token_heads * self.N**2


@dataclass(frozen=True)
class Case:
    """The arguments of one pass, as a model makes them, and the gradients that come from above.

    `tensors` are r, w, k, v, a, b [B,T,H,N] and s0 [B,H,N,N]; dy is like r, dcap like s0. w is the raw input
    of the "sigmoid" decay.
    """

    shape: Shape
    tensors: tuple[Tensor, ...]
    dy: Tensor
    dcap: Tensor

    def part(self, samples: int, heads: int, dtype: torch.dtype) -> Case:
        """The first samples and heads alone, in another precision. Neither know of each other."""
        named = zip((*INPUTS, "dy", "dcap"), (*self.tensors, self.dy, self.dcap), strict=True)
        *cut, dy, dcap = (part_of(name, x, samples, heads).to(dtype) for name, x in named)
        return Case(Shape(samples, self.shape.T, heads, self.shape.N), tuple(cut), dy, dcap)


def part_of(name: str, x: Tensor, samples: int, heads: int) -> Tensor:
    """First samples and heads of a tensor, called by its name: states are [B,H,N,N], others [B,T,H,N]."""
    is_state = name in ("s0", "ds0", "cap", "dcap")
    return x[:samples, :heads] if is_state else x[:samples, :, :heads]


def relative_error(x: Tensor, expected: Tensor) -> float:
    """||x - expected|| / ||expected||."""
    return float((x.double() - expected).norm() / expected.norm())


def random_case(shape: Shape, device: torch.device, dtype: torch.dtype) -> Case:
    """Normalised keys, gates in (0,1), decays over their whole usual range; the same at every call."""
    source = torch.Generator(device).manual_seed(0)
    tokens, states = (shape.B, shape.T, shape.H, shape.N), (shape.B, shape.H, shape.N, shape.N)
    state_dtype = torch.float32 if dtype == torch.bfloat16 else dtype

    def normal(sizes: tuple[int, ...] = tokens) -> Tensor:
        return torch.randn(sizes, generator=source, device=device)

    def uniform() -> Tensor:
        return torch.rand(tokens, generator=source, device=device)

    key = torch.nn.functional.normalize(normal(), dim=-1)
    made = [normal() / 2, 9 * uniform() - 6, normal() / 2, normal(), -key, key * uniform()]
    tensors = (*(x.to(dtype) for x in made), normal(states).to(state_dtype))
    return Case(shape, tensors, normal().to(dtype), normal(states).to(state_dtype))


@dataclass(frozen=True)
class Work:
    """One contender on one case.

    `call` makes the outputs from the leaves, `upstream` are the outputs' gradients, and `joined` makes of the
    outputs and the leaves' gradients what RESULTS names.
    """

    leaves: list[Tensor]
    call: Callable[[Sequence[Tensor]], list[Tensor]]
    upstream: list[Tensor]
    joined: Callable[[list[Tensor], list[Tensor]], list[Tensor]] = lambda outputs, gradients: (
        outputs + gradients
    )

    def forward(self) -> list[Tensor]:
        """The outputs, without a gradient."""
        with torch.no_grad():
            return self.call(self.leaves)

    def both(self) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs and the gradients of all leaves."""
        outputs = self.call(self.leaves)
        return outputs, list(torch.autograd.grad(outputs, self.leaves, self.upstream))

    def results(self) -> dict[str, Tensor]:
        """y, cap and all gradients, by name."""
        outputs, gradients = self.both()
        found = self.joined([x.detach() for x in outputs], gradients)
        return dict(zip(RESULTS, found, strict=True))


def _leaf(x: Tensor) -> Tensor:
    return x.contiguous().detach().requires_grad_()


def operator(case: Case, impl: Literal["cpu", "cuda1", "cuda2", "chunked"], capture: bool = True) -> Work:
    """Our operator, by one of its implementations: one call. Without `capture` there is no `cap`."""
    shape = case.shape
    p = torch.full((shape.B,), shape.p, device=case.dy.device) if capture else None

    def call(leaves: Sequence[Tensor]) -> list[Tensor]:
        r, w, k, v, a, b, s0 = leaves
        y, cap, _ = wkv7_fs(r, w, k, v, a, b, s0, p, decay="sigmoid", impl=impl)
        return [y] if cap is None else [y, cap]

    return Work([_leaf(x) for x in case.tensors], call, [case.dy, case.dcap][: 1 + capture])


def loop(case: Case) -> Work:
    """What one writes first: the recurrence token by token, in PyTorch and its autograd.

    It takes x[:, t] at each token, which costs the backward pass a gradient as large as x every time.
    """
    return _loop(case, lambda x: [x[:, t] for t in range(x.shape[1])])


def unbound_loop(case: Case) -> Work:
    """The same by one who knows that: the inputs are unbound once."""
    return _loop(case, lambda x: x.unbind(1))


def _loop(case: Case, by_token: Callable[[Tensor], Sequence[Tensor]]) -> Work:
    def call(leaves: Sequence[Tensor]) -> list[Tensor]:
        r, w, k, v, a, b, S = leaves
        decay = torch.exp(_LOWEST_LOG_DECAY * torch.sigmoid(w))
        ys, cap = [], S
        tokens = zip(*map(by_token, (r, decay, k, v, a, b)), strict=True)
        for t, (r_t, d_t, k_t, v_t, a_t, b_t) in enumerate(tokens):
            u = S @ a_t[..., None]  # [B,H,N,1]
            S = S * d_t[:, :, None] + u * b_t[:, :, None] + v_t[..., None] * k_t[:, :, None]
            ys.append((S @ r_t[..., None]).squeeze(-1))
            if t + 1 == case.shape.p:
                cap = S
        return [torch.stack(ys, 1), cap]

    return Work([_leaf(x) for x in case.tensors], call, [case.dy, case.dcap])


Recurrence = Callable[..., tuple[Tensor, Tensor | None]]
"""What a peer is: called with r, w, k, v, a, b, s0 and whether the final state is wanted, it gives y and that
state, or None. Shapes, dtypes and decay are those of a Case; contiguous tensors; differentiable."""


def peer(case: Case, recurrence: Recurrence) -> Work:
    """A kernel that captures nothing, so that it takes two calls; the state between them is `cap`.

    Prompt and answer lie apart from the start, as they would in a model that makes two calls.
    """
    *tokens, s0 = case.tensors
    p = case.shape.p

    def call(leaves: Sequence[Tensor]) -> list[Tensor]:
        prompt, cap = recurrence(*leaves[:6], leaves[12], True)
        assert cap is not None, "the peer gave no final state"
        answer, _ = recurrence(*leaves[6:12], cap, False)
        return [prompt, answer, cap]

    def joined(outputs: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        halves = zip(gradients[:6], gradients[6:12], strict=True)
        return [
            torch.cat(outputs[:2], 1),
            outputs[2],
            *(torch.cat(half, 1) for half in halves),
            gradients[12],
        ]

    leaves = [_leaf(x[:, :p]) for x in tokens] + [_leaf(x[:, p:]) for x in tokens] + [_leaf(s0)]
    return Work(leaves, call, [case.dy[:, :p].contiguous(), case.dy[:, p:].contiguous(), case.dcap], joined)


def named_peer(place: str) -> Recurrence:
    """The function that "module:function" names, of whatever Python can import.

    Raises ValueError, with a sentence, if there is none.
    """
    module, _, function = place.partition(":")
    try:
        found: Recurrence = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever somebody else's module raises
        raise ValueError(
            f"The peer {place} cannot be had ({type(error).__name__}: {error}). Is its folder in PYTHONPATH?"
        ) from error
    return found


def fla_is_here() -> bool:
    """Whether fla-core is installed."""
    return importlib.util.find_spec("fla") is not None


def fla(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, s0: Tensor, final: bool
) -> tuple[Tensor, Tensor | None]:
    """fla-core's chunk_rwkv7 as a Recurrence.

    It wants the log decay, which is made from the same raw input here, and its states are the transpose of
    ours. Saying how low the log decay can get lets it use its fast path. Raises whatever its import raises.
    """
    chunk_rwkv7: Any = importlib.import_module("fla.ops.rwkv7").chunk_rwkv7
    y, state = chunk_rwkv7(
        r=r,
        w=_LOWEST_LOG_DECAY * torch.sigmoid(w),
        k=k,
        v=v,
        a=a,
        b=b,
        scale=1.0,
        initial_state=s0.mT,
        output_final_state=final,
        lower_bound=_LOWEST_LOG_DECAY,
    )
    return y, state.mT if final else None
