"""How far an implementation is from the reference, in everything it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .cases import NAMES, Case, relative_error, upstream
from .reference import reference


def relative_errors(case: Case, run: Callable[..., Any]) -> dict[str, float]:
    """Relative error of each output and each gradient of `run`, a function of the seven tensors and p.

    `run` returns y, cap (None without p) and sT; all of them have upstream gradients.
    """
    ours, theirs = case.with_grad(), case.to(torch.float64).with_grad()
    outputs = run(*ours.tensors, ours.p)
    expected = reference(*theirs.tensors, theirs.p, case.decay)
    found = {}
    for name, x, want in zip(("y", "cap", "sT"), outputs, expected, strict=True):
        assert (x is None) == (want is None)
        if x is not None and want is not None:
            found[name] = relative_error(x, want)
    given, wanted = ([x for x in side if x is not None] for side in (outputs, expected))
    torch.autograd.backward(given, upstream(tuple(given)))
    torch.autograd.backward(wanted, upstream(tuple(wanted)))
    for name, x, want in zip(NAMES, ours.tensors, theirs.tensors, strict=True):
        assert x.grad is not None and want.grad is not None
        found[name] = relative_error(x.grad, want.grad)
    return found


def assert_within(found: dict[str, float], tolerance: dict[str, float]) -> None:
    """Each error found is at most the tolerance of its name; a NaN is not."""
    beyond = {name: error for name, error in found.items() if not error <= tolerance[name]}
    assert not beyond
