"""Why an attempt may end before its last step, and the sentences about it.

Deliberately not here: when this is looked at (`trainer`), and what follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class Ended(Exception):
    """The attempt ends before its last step, with an outcome and a sentence about it."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


def end_if_diverged(loss: float, step: int, steps: int) -> None:
    """Raises Ended where the loss of step `step` is no finite number."""
    if not math.isfinite(loss):
        raise Ended("diverged", f"the loss became {loss} in step {step} of {steps}")


def end_if_noop(
    reference: Mapping[str, Any] | None, first_losses: Sequence[float], weights_sha256: str | None
) -> None:
    """Raises Ended where first losses and the weights after them are the baseline's, `reference`."""
    if reference is None or reference["weights_sha256"] != weights_sha256:
        return
    if reference["first_losses"] == first_losses:
        raise Ended(
            "noop",
            f"the losses of the first {len(first_losses)} steps and the weights after them are the "
            "baseline's, bit for bit: the variant does nothing here",
        )


def end_if_hopeless(look: Mapping[str, Any] | None, score: float, step: int, steps: int) -> None:
    """Raises Ended at the step of the one look, if the score there is below what the noise explains."""
    if look is None or step != look["step"] or score >= look["below"]:
        return
    own, baseline, below = (f"{it * 100:.2f} %" for it in (score, look["baseline_score"], look["below"]))
    raise Ended(
        "stopped_early",
        f"stopped at the look after {step} of {steps} steps: its score there is {own}, the "
        f"baseline's {baseline}, and below {below} the noise does not explain it",
    )
