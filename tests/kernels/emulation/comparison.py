"""Emulated operators against the reference: all outputs and all gradients of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..cases import NAMES, Case, relative_error, upstream
from ..reference import reference

OUTPUTS = ("y", "cap", "sT")


class Operator(Protocol):
    """What Wkv7 and Wkv7V2 have in common."""

    io: torch.dtype

    def rounded(self, case: Case) -> Case: ...

    def run(
        self, case: Case, upstream: Mapping[str, Tensor] | None = None, *, s0: bool = True, final: bool = True
    ) -> dict[str, Tensor]: ...


def upstream_of(wkv7: Operator, case: Case, names: tuple[str, ...] = OUTPUTS) -> dict[str, Tensor]:
    """Random gradients of these of the outputs that the case has."""
    r, s0 = case.tensors[0], case.tensors[6]
    likes = (torch.empty_like(r, dtype=wkv7.io), s0.float(), s0.float())
    gradients = dict(zip(OUTPUTS, upstream(likes), strict=True))
    return {name: gradients[name] for name in names if name != "cap" or case.p is not None}


def expected_of(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs and gradients of a rounded case by the reference."""
    exact = case.to(torch.float64).with_grad()
    outputs = reference(*exact.tensors, exact.p, case.decay)
    results = {name: x for name, x in zip(OUTPUTS, outputs, strict=True) if x is not None}
    gradients = torch.autograd.grad(
        [results[name] for name in given],
        exact.tensors,
        [x.double() for x in given.values()],
        allow_unused=True,
    )
    for name, x, leaf in zip(NAMES, gradients, exact.tensors, strict=True):
        results[name] = torch.zeros_like(leaf) if x is None else x
    return {name: x.detach() for name, x in results.items()}


def errors_of(wkv7: Operator, case: Case, used: tuple[str, ...] = OUTPUTS) -> dict[str, float]:
    """Relative error of each output and each gradient, with upstream gradients of the outputs `used`."""
    case = wkv7.rounded(case)
    given = upstream_of(wkv7, case, used)
    found, expected = wkv7.run(case, given), expected_of(case, given)
    assert found.keys() == expected.keys()
    return {name: relative_error(x, expected[name]) for name, x in found.items()}


def run(wkv7: Operator, case: Case) -> dict[str, Tensor]:
    """All outputs and all gradients of a case."""
    case = wkv7.rounded(case)
    return wkv7.run(case, upstream_of(wkv7, case))


def assert_same_bits(xs: dict[str, Tensor], ys: dict[str, Tensor]) -> None:
    assert xs.keys() == ys.keys()
    different = [
        name for name, x in xs.items() if not torch.equal(x.view(torch.uint8), ys[name].view(torch.uint8))
    ]
    assert not different
