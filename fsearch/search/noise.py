"""What rows already tell of the noise of a screen, before a search has measured its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fsearch.plan import BASELINE_FORM, SCORE, Search
from fsearch.search.rows import Attempt
from fsearch.search.specs import search_key
from fsearch.search.statistics import noise_sd


@dataclass(frozen=True, slots=True)
class Noise:
    """The spread of the difference of two quick baselines."""

    sd: float
    runs: int  # baselines that it is from
    own: bool  # of this very search; else of other searches of the task with the same model and steps


def known_noise(search: Search, attempts: Iterable[Attempt]) -> Noise | None:
    """The noise of a search's first stage: its own, else that of its like; None if nothing tells.

    Searches alike have one task with its arguments, one model and one number of quick steps. Spreads of
    several are pooled by their degrees of freedom; a spread is never taken across searches.
    """
    groups: dict[tuple[str, int, str], dict[int, float]] = {}
    for row in attempts:
        spec = row.spec
        score = row.read(search.metric).score
        alike = (
            row.outcome == "completed"
            and spec.role == "screen"
            and spec.form == BASELINE_FORM
            and (search.metric == SCORE or spec.completions == search.completions)
            and (spec.task, spec.arguments, spec.model) == (search.task, search.arguments, search.model)
            and spec.steps == search.stages[0].steps
        )
        if alike and score is not None:
            place = (spec.search_key, spec.micro_batch, row.fingerprint)
            groups.setdefault(place, {})[spec.seed] = score
    measured = {place: list(scores.values()) for place, scores in groups.items() if len(scores) > 1}
    own = [scores for place, scores in measured.items() if place[0] == search_key(search)]
    some = own[-1:] or list(measured.values())
    freedom = sum(len(scores) - 1 for scores in some)
    if not freedom:
        return None
    squares = math.fsum((len(scores) - 1) * (noise_sd(scores) or 0.0) ** 2 for scores in some)
    return Noise(math.sqrt(squares / freedom), sum(map(len, some)), bool(own))
