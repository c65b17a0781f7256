"""`fsearch check PLAN`: is the plan valid, can this release run it, and what would it do? Touches nothing."""

from __future__ import annotations

import argparse

from rich.text import Text

from fsearch.plan import Plan, Search, expand, sort_out
from fsearch.ui.counts import at_most, trained_variants
from fsearch.ui.errors import OK
from fsearch.ui.layout import columns, console, paragraph, put
from fsearch.ui.plans import PlanFile, read_runnable
from fsearch.ui.words import margin, points


def answer(options: argparse.Namespace) -> int:
    """Print what the plan would do. Raises UserError where it is wrong or not available."""
    file = read_runnable(options.plan)
    screen = console()
    put(screen, lines(file, screen.width))
    return OK


def lines(file: PlanFile, width: int) -> list[Text]:
    """The plan's searches, each with its attempts and what would not be trained."""
    plan = file.plan
    searches = expand(plan)
    total = sum(sum(at_most(search)) for search in searches)
    source = f"{file.path}{' (packaged)' if file.packaged else ''}"
    many = "1 search" if len(searches) == 1 else f"{len(searches)} searches"
    result = [Text.assemble(("valid", "bold green"), f"  {plan.name}")]
    result += paragraph(f"{source}; id {plan.id}; master seed {plan.seed}", width, style="dim")
    result += paragraph(
        f"{many}, at most {total} trained attempts. A gain counts from {margin(plan.claim.at_least)} on, "
        f"at alpha {plan.claim.alpha:g}, corrected (Holm) over all confirmed variants of the plan.",
        width,
    )
    for search in searches:
        result += [Text(), *_search(plan, search, width)]
    return result


def _search(plan: Plan, search: Search, width: int) -> list[Text]:
    sizes = at_most(search)
    result = [Text.assemble((search.label, "bold cyan"), (f"   at most {sum(sizes)} attempts", "dim"))]
    rows: list[list[Text | str]] = []
    for stage, size in zip(search.stages, sizes, strict=True):
        rows.append([stage.name, f"{stage.steps} steps", f"at most {size}", _stage_words(search, stage.name)])
    result += columns(rows, "<>><")
    trained = trained_variants(search)
    result += paragraph(f"{len(trained)} variants to train: {', '.join(trained) or 'none'}", width)
    for found in sort_out(search.variants, search.n_layer or 0):
        name = found.variant.name
        if found.noop:
            result += paragraph(f"no-op, not trained: {name}: {found.noop}", width, style="yellow")
        elif found.same_as:
            merged = f"merged: {name} is the same as {found.same_as} in this model"
            result += paragraph(merged, width, style="yellow")
    return result


def _stage_words(search: Search, name: str) -> str:
    last = search.stages[-1]
    if name == last.name:
        return f"{last.seeds} fresh seeds, each with its own baseline"
    assert search.screen is not None
    words = f"prune below {points(search.screen.prune_below)} pp"
    if name == search.stages[0].name and search.screen.noise_floor_seeds:
        words += f", noise floor on {search.screen.noise_floor_seeds} seeds"
    if name == search.stages[-2].name and search.screen.promote_at_most is not None:
        words += f", promote {search.screen.promote_at_most}"
    return words
