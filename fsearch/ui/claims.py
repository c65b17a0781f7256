"""What may be claimed of each search, and what may not, in plain sentences: pure functions of the verdicts.

`fsearch.ui.words.claim` says the same in one sentence for a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fsearch.plan import BASELINE
from fsearch.ui.view import PlanView, SearchView, VariantView
from fsearch.ui.words import (
    NOT_INSPECTED,
    interval,
    margin,
    names,
    operating_card,
    p_value,
    percent,
    points,
    warnings,
)

_HALVES = {"confirm": "the confirm half, which no choice was made on", "all": "both halves"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchClaims:
    """One search's paragraph, in its parts; every part is whole sentences."""

    search: str  # label
    tested: str  # what was compared with what
    may: tuple[str, ...]  # what may be claimed, effects with their intervals
    may_not: tuple[str, ...]
    drafts: tuple[str, ...]  # what the drafts would have reported: unmatched, and marked as such
    minded: tuple[str, ...]  # warnings

    @property
    def parts(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Field, heading and sentences of each part that says something."""
        drafts = "The drafts would have reported (last stage minus the first stage's baseline: not matched)"
        headings = (
            ("may", "May be claimed"),
            ("may_not", "May not be claimed"),
            ("drafts", drafts),
            ("minded", "To be minded"),
        )
        found = [(name, heading, getattr(self, name)) for name, heading in headings]
        return [part for part in found if part[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClaims:
    """What may be claimed in one task."""

    task: str
    searches: tuple[SearchClaims, ...]


def task_claims(view: PlanView) -> list[TaskClaims]:
    """The claims of every task of a plan, in its order."""
    return [
        TaskClaims(
            task=task,
            searches=tuple(_search_claims(search, view) for search in view.searches if search.task == task),
        )
        for task in dict.fromkeys(search.task for search in view.searches)
    ]


def _search_claims(search: SearchView, view: PlanView) -> SearchClaims:
    own = [variant for variant in search.variants if variant.same_as is None]
    if search.failed:
        sentence, *_ = search.failed.split("\n")
        tested = f"Nothing was tested, as the search failed: {sentence}"
        return _nothing(search, tested, "Nothing may be claimed.")
    if not search.begun:
        why = "" if search.inspected else f": {NOT_INSPECTED}"
        return _nothing(search, f"Nothing has been tested yet{why}.", "Nothing may be claimed yet.")
    return SearchClaims(
        search=search.label,
        tested=_tested(search, own, view),
        may=tuple(_effect(variant, view) for variant in own if _has_claim(variant)),
        may_not=tuple(_may_not(own, view)),
        drafts=tuple(_drafts(variant) for variant in own if variant.drafts_delta is not None),
        minded=tuple(_minded(search, own)),
    )


def _nothing(search: SearchView, tested: str, sentence: str) -> SearchClaims:
    return SearchClaims(search=search.label, tested=tested, may=(), may_not=(sentence,), drafts=(), minded=())


def _has_claim(variant: VariantView) -> bool:
    return variant.verdict in ("at_least_delta", "better_than_zero", "worse", "equivalent")


def _tested(search: SearchView, own: Sequence[VariantView], view: PlanView) -> str:
    last = search.stages[-1]
    was, were = ("was", "were") if search.finished else ("is", "are")
    what = f"{len(own)} variants {were}" if len(own) > 1 else f"{own[0].name} {was}"
    batch = f"batch {search.batch}" if search.batch else "batch"
    parts = [
        f"{what} compared with {BASELINE}, each run with the baseline's of the same seed, recipe, data, "
        f"steps and {batch}."
    ]
    if search.screened:
        screens = names([f"{stage.steps} steps ({stage.name})" for stage in search.stages[:-1]])
        parts.append(f"A screen of one seed and {screens} chose who went on; nothing is claimed from it.")
    seeds = f"{last.seeds} {'fresh ' if search.screened else ''}seeds of {last.steps} steps ({last.name})"
    scored = f", scored on {search.examples} examples ({_HALVES[search.half]})" if search.examples else ""
    parts.append(f"{'The confirmation has' if search.screened else 'There are'} {seeds}{scored}.")
    if last.baseline_mean is not None:
        parts.append(f"{BASELINE} scores {percent(last.baseline_mean)} there.")
    levels = sorted({variant.level for variant in own if variant.level is not None})
    if levels:
        promoted = f"{view.promoted} promoted variant{'s' if view.promoted != 1 else ''}"
        against = names([f"{level:g}" for level in levels])
        parts.append(f"p values are corrected (Holm) over the plan's {promoted} and held against {against}.")
    return " ".join(parts)


def _effect(variant: VariantView, view: PlanView) -> str:
    """A verdict that says something, with its effect and how sure it is."""
    at_least = margin(view.at_least)
    found, p = {
        "at_least_delta": (f"gains at least {at_least}", variant.p_at_least),
        "better_than_zero": (f"is better than {BASELINE}", variant.p_better),
        "worse": (f"is worse than {BASELINE}", None),
        "equivalent": (f"differs from {BASELINE} by less than {at_least}, either way", None),
    }[variant.verdict or ""]
    sure = "" if p is None else f", p {p_value(p)}"
    return f"{variant.name} {found}{' (provisional)' * variant.provisional}: {_interval(variant)}{sure}."


def _interval(variant: VariantView) -> str:
    return f"{points(variant.mean)} pp, 95 % interval {interval(variant)}, {len(variant.differences)} seeds"


def _may_not(own: Sequence[VariantView], view: PlanView) -> Iterable[str]:
    at_least = margin(view.at_least)
    for variant in own:
        if variant.verdict == "better_than_zero":
            yield f"That {variant.name} gains {at_least} or more: p {p_value(variant.p_at_least)}."
        elif variant.verdict == "inconclusive":
            needed = variant.seeds_needed or 0
            more = f"; about {needed} seeds would tell {at_least} from nothing"
            yield (
                f"That {variant.name} helps, or that it does not: {_interval(variant)}"
                f"{more if needed > len(variant.differences) else ''}."
            )
    for word, said in (
        ("pruned", "Anything of {}: pruned on one seed, which shows neither a gain nor that there is none."),
        ("not_promoted", "Anything of {}: kept on one seed, but others were ahead and took the places."),
        ("noop", "Anything of {}: with this model the training is the baseline's."),
        ("failed", "Anything of {}: a run failed."),
    ):
        if left := [variant.name for variant in own if variant.verdict == word]:
            yield said.format(names(left))
    if still := [variant.name for variant in own if variant.verdict is None]:
        yield f"Anything of {names(still)} yet: seeds are missing."
    yield "Anything about other steps, batches, learning rates, models or data than these."


def _drafts(variant: VariantView) -> str:
    return f"{variant.name} {points(variant.drafts_delta)} pp; matched it is {points(variant.mean)} pp."


def _minded(search: SearchView, own: Sequence[VariantView]) -> Iterable[str]:
    if any(variant.provisional for variant in own):
        yield "Claims are provisional until the plan's last search has its seeds: more tests correct more."
    if search.card is not None:
        yield _sentence(f"the screen: {operating_card(search.card)}")
    yield from map(_sentence, warnings(search))
    for variant in own:
        if variant.loss and variant.loss.disagrees:
            yield f"{variant.name}: accuracy and loss contradict each other, both beyond the noise."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
