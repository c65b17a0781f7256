"""Whatever stands in a plan file, reading it gives a plan or a PlanError, and nothing else."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fsearch.plan import Plan, PlanError, canonical, expand, noop_reason, parse

from .plan_texts import COMPLETE, GOOD, SCHEMAS

WORDS = [
    *("", " ", "\t", "\n", "\r", "- ", ": ", "? ", ",", "{", "}", "[", "]", "&a ", "*a", "!x ", "|", ">"),
    *("%", "#", "'", '"', "<<: ", "---\n", "...\n", "\0", "\x85", "\u2028", "\ufeff", "\ud800", "ü", "٣"),
    *("null", "~", "true", "0", "-0.0", "-1", "1", "2", "0.5", "1e308", "1e999", ".nan", "-.inf"),
    *("9" * 18, "9" * 19, "[]", "{}", "[[]]", "{a: 1}", "seeds: 2", "batch: largest", "{largest: {}}"),
    *("{largest: {at_most: 0}}", "[" * 2000),
    *("no_fs", "scalar_l0", "head_l99_a3", "inputgate_l1", "{name: aa, stream: 1}", "{name: z, scale: 1000}"),
    *("train: {lr: []}", "variants: []", "stages: []", "screen: null", "betas: [1]", "0x1F"),
]  # fmt: skip

EDIT = st.tuples(
    st.sampled_from(
        ["insert", "replace word", "delete word", "delete line", "repeat line", "swap lines", "cut"]
    ),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.sampled_from(WORDS) | st.text(max_size=4),
)


def mutated(text: str, how: str, at: int, other: int, word: str) -> str:
    if how == "insert":
        at %= len(text) + 1
        return text[:at] + word + text[at:]
    if how == "cut":
        start, end = sorted((at % (len(text) + 1), other % (len(text) + 1)))
        return text[:start] + text[min(end, start + 30) :]
    if how.endswith("word"):
        words = text.split(" ")
        words[at % len(words)] = word if how == "replace word" else ""
        return " ".join(words)
    lines = text.split("\n")
    first, second = at % len(lines), other % len(lines)
    if how == "delete line":
        del lines[first]
    elif how == "repeat line":
        lines.insert(second, lines[first])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return "\n".join(lines)


def check(text: str) -> None:
    try:
        plan = parse(text, SCHEMAS, "plan.yaml")
    except PlanError as error:
        assert error.problems
        for problem in error.problems:
            assert 1 <= problem.place.line <= len(text.splitlines()) + 1
            assert problem.place.column >= 1 and problem.message
        places = [(problem.place.line, problem.place.column) for problem in error.problems]
        assert places == sorted(places)
        return
    assert isinstance(plan, Plan)
    for search in expand(plan):
        for variant in search.variants:
            for n_layer in (1, 3, 12):
                json.dumps(canonical(variant, n_layer), allow_nan=False)
                noop_reason(variant, n_layer)


@settings(max_examples=500, deadline=None)
@given(start=st.sampled_from([GOOD, COMPLETE]), edits=st.lists(EDIT, min_size=1, max_size=4))
def test_a_mutated_plan_is_a_plan_or_an_error(start: str, edits: list[tuple[str, int, int, str]]) -> None:
    """No mutation of a good plan gets another exception out of the parser, the searches or the forms."""
    text = start
    for how, at, other, word in edits:
        text = mutated(text, how, at, other, word)
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_plan_or_an_error(text: str) -> None:
    """Nor does any other text."""
    check(text)
