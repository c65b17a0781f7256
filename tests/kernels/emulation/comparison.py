"""Emulated operators: outputs and gradients of a case against the reference, and against themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..cases import NAMES, Case, relative_error, upstream
from ..reference import reference
from .library import Library

OUTPUTS = ("y", "cap", "sT")


class Operator(ABC):
    """What Wkv7 and Wkv7V2 have in common: kernels for one type of r, k, v, a, b and one of w."""

    library: Library
    io: torch.dtype
    w: torch.dtype

    def rounded(self, case: Case) -> Case:
        """`case` in the types that the kernels take; s0 is always float."""
        *six, s0 = case.tensors
        typed = (x.to(self.w if name == "w" else self.io) for name, x in zip(NAMES, six, strict=False))
        return Case((*typed, s0.float()), case.p, case.decay)

    @abstractmethod
    def run(
        self, case: Case, upstream: Mapping[str, Tensor] | None = None, *, s0: bool = True, final: bool = True
    ) -> dict[str, Tensor]:
        """y, cap (if the case has p) and sT (if `final`) of a rounded case.

        With `upstream`, the gradients of some or none of those three, also the gradients of the case's
        tensors, by their names. Without `s0` that of the case is not passed. All memory that the kernels
        write holds NaN before they run. Raises KernelFault.
        """


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


def assert_nothing_passes_the_capture(wkv7: Operator, case: Case) -> None:
    """NaN in every token from p on reaches neither the captured state nor an earlier output."""
    clean = wkv7.rounded(case)
    assert clean.p is not None
    poisoned = tuple(x.clone() for x in clean.tensors)
    for x in poisoned[:6]:
        for n, p in enumerate(clean.p.tolist()):
            x[n, p:] = torch.nan
    found, expected = wkv7.run(replace(clean, tensors=poisoned)), wkv7.run(clean)
    assert torch.equal(found["cap"], expected["cap"])
    for n, p in enumerate(clean.p.tolist()):
        assert torch.equal(found["y"][n, :p], expected["y"][n, :p])
        assert found["y"][n, p:].isnan().all()


def assert_samples_are_apart(wkv7: Operator, case: Case) -> None:
    """NaN in the second of three samples changes no output and no gradient of the others."""
    poisoned = tuple(x.clone() for x in case.tensors)
    for x in poisoned:
        x[1] = torch.nan
    found, expected = run(wkv7, replace(case, tensors=poisoned)), run(wkv7, case)
    assert_same_bits(*({name: x[[0, 2]] for name, x in side.items()} for side in (found, expected)))
    assert all(x[1].isnan().any() for x in found.values())


def assert_a_batch_is_its_samples(wkv7: Operator, case: Case) -> None:
    """A batch is as many batches of one, to the bit."""
    case = wkv7.rounded(case)
    given = upstream_of(wkv7, case)
    together = wkv7.run(case, given)
    assert case.p is not None
    for n in range(len(case.p)):
        alone = Case(tuple(x[n : n + 1] for x in case.tensors), case.p[n : n + 1])
        found = wkv7.run(alone, {name: x[n : n + 1] for name, x in given.items()})
        assert_same_bits(found, {name: x[n : n + 1] for name, x in together.items()})


def assert_one_pass_is_two_calls(wkv7: Operator, case: Case, at: int) -> None:
    """Capturing at p and going on equals a call for the prompt and one for the answer, to the bit."""
    *six, s0 = wkv7.rounded(case).tensors
    whole = wkv7.run(Case((*six, s0), torch.full((len(s0),), at)))
    first = wkv7.run(Case((*(x[:, :at] for x in six), s0), None))
    second = wkv7.run(Case((*(x[:, at:] for x in six), first["sT"]), None))
    two = {"y": torch.cat([first["y"], second["y"]], 1), "cap": first["sT"], "sT": second["sT"]}
    assert_same_bits(whole, two)


def assert_any_order_will_do(wkv7: Operator, case: Case) -> None:
    """Two runs and four schedules give the same bits."""
    expected = run(wkv7, case)
    try:
        for schedule in (0, 1, 2, 3):
            wkv7.library.schedule(schedule)
            assert_same_bits(run(wkv7, case), expected)
    finally:
        wkv7.library.schedule(0)
