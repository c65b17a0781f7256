"""What executed programs say: does the answer work, not only match.

`exec_ok` is the share of completions that run without an error of their own, `tests_passed` the mean share of
an example's tests that hold, `pass_at_k` the probability that of k completions of an example at least one
passes all its tests, estimated without bias from n samples of which c pass (Chen et al. 2021, "Evaluating
Large Language Models Trained on Code", equation 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb
from statistics import fmean

from fsearch.tasks.code_exec import Ran, Verdict
from fsearch.tasks.task import Judgement


def metrics_of(samples: int) -> tuple[str, ...]:
    """The metrics of `samples` programs an example."""
    more = (f"pass_at_{samples}",) if samples > 1 else ()
    return ("exec_ok", "tests_passed", "pass_at_1", *more)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The share of the choices of k of n samples with one of the c that pass: 1 - C(n - c, k) / C(n, k)."""
    return (comb(n, k) - comb(n - c, k)) / comb(n, k)


def judged(ran: Sequence[Sequence[Ran]]) -> Judgement:
    """The metrics of some examples, each with what its samples came to, and how many ended in which way."""
    samples = len(ran[0])
    passed = [sum(one.verdict is Verdict.PASSED for one in example) for example in ran]
    values = {
        "exec_ok": [fmean(one.exec_ok for one in example) for example in ran],
        "tests_passed": [fmean(one.tests_passed / one.tests for one in example) for example in ran],
        "pass_at_1": [pass_at_k(samples, c, 1) for c in passed],
        f"pass_at_{samples}": [pass_at_k(samples, c, samples) for c in passed],
    }
    counts = Counter(one.verdict for example in ran for one in example)
    figures = {f"programs_{verdict}": float(counts[verdict]) for verdict in Verdict}
    return Judgement(by_example=values, figures=figures)
