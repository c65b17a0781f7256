"""Which of the two CUDA kernels serves a call: the faster one where both were measured, else by a rule.

v1 takes everything. v2 takes bfloat16 tensors (w may be float32) with N = 64 or 128, and works on many tokens
at once: short sequences are left to v1. The choice is a function of the call and of a table of
measurements, and has a name, so that rows of two choices are never compared.

Plain values only: torch is not needed here. The table's file is `fsearch.kernels.tuning`'s.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kernel = Literal["cuda1", "cuda2"]

LEAST_TOKENS = 64
"""Below so many tokens v1 serves, whatever was measured."""

CHUNKED_HEAD_SIZES = (64, 128)
"""Those that v2 takes."""

_DTYPE = "bfloat16"


@dataclass(frozen=True)
class Call:
    """A call of the operator: the GPU ("sm_90"), dtype of r ("bfloat16"), shape [B,T,H,N] of r, decay."""

    architecture: str
    dtype: str
    B: int
    T: int
    H: int
    N: int
    decay: str = "sigmoid"


@dataclass(frozen=True)
class Measurement:
    """How long forward and backward take with each kernel, in milliseconds, on bfloat16 tensors."""

    architecture: str
    decay: str
    B: int
    T: int
    H: int
    N: int
    v1_ms: float
    v2_ms: float

    @property
    def kernel(self) -> Kernel:
        """The faster one; v1 where they are equal."""
        return "cuda2" if self.v2_ms < self.v1_ms else "cuda1"


Table = Sequence[Measurement]

SHIPPED: Table = ()
"""What was measured before this release: nothing yet, on no architecture. The rule stands in."""


def v2_takes(dtype: str, head_size: int) -> bool:
    """Whether v2 can serve such calls at all. It runs on every GPU that a library can be built for."""
    return dtype == _DTYPE and head_size in CHUNKED_HEAD_SIZES


def chosen(call: Call, table: Table, *, has_v2: bool) -> Kernel:
    """The kernel that serves a call where `table` was measured, and the library has v2 or not.

    Of the measurements with the call's architecture, decay and N the nearest counts, in octaves of B H and of
    T; the machine's own before the shipped ones. Without any it is v2 from 64 tokens on.
    """
    if not has_v2 or not v2_takes(call.dtype, call.N) or call.T < LEAST_TOKENS:
        return "cuda1"
    nearest = _nearest(call, table) or _nearest(call, SHIPPED)
    return nearest.kernel if nearest else "cuda2"


def _nearest(call: Call, table: Table) -> Measurement | None:
    """The measurement of the call's kind that is least far from it; of equally far ones the smallest."""
    nearest, least = None, math.inf
    for one in sorted(table, key=lambda one: (one.T, one.B, one.H)):
        if (one.architecture, one.decay, one.N) == (call.architecture, call.decay, call.N):
            heads = abs(math.log2(call.B * call.H) - math.log2(one.B * one.H))
            distance = heads + abs(math.log2(call.T) - math.log2(one.T))
            if distance < least:
                nearest, least = one, distance
    return nearest


def name(table: Table, *, has_v2: bool) -> str:
    """What is chosen by: "cuda1", "cuda2" by the rule, "cuda2-tuned-0f1e2d3c" by a table.

    The digits stand for which kernel won where, not for the times: tables that choose alike share them.
    """
    if not has_v2 or not table:
        return "cuda2" if has_v2 else "cuda1"
    won = sorted((one.architecture, one.decay, one.N, one.T, one.B, one.H, one.kernel) for one in table)
    return f"cuda2-tuned-{hashlib.sha256(json.dumps(won).encode()).hexdigest()[:8]}"
