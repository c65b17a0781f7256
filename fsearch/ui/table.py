"""The report as lines: for each search its baselines, its variants, and what may be claimed.

Laid out for 80 columns, where a confirmed variant takes two lines, and for wide terminals, where it
takes one.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from fsearch.plan import BASELINE, SCORE
from fsearch.search.verdict import FIRST_LEVEL, SECOND_LEVEL
from fsearch.ui.layout import WIDE, columns, paragraph, pulled_apart, shortened, worded
from fsearch.ui.regime_table import regime_table
from fsearch.ui.rows import Row
from fsearch.ui.view import PlanView, SearchView, VariantView
from fsearch.ui.words import (
    bounds,
    claim,
    duration,
    interval,
    margin,
    operating_card,
    p_value,
    percent,
    points,
    recomputation,
    verdict,
    warnings,
)


def plan_report(view: PlanView, width: int) -> list[Text]:
    """One plan in full."""
    where = Text("finished", "green") if view.finished else Text("not finished", "yellow")
    lines = [pulled_apart(Text(view.name, "bold"), where, width)]
    lines += paragraph(
        f"d_acc in percentage points against the matched baseline {BASELINE}. A gain counts from "
        f"{margin(view.at_least)} on, at alpha {view.alpha:g}.",
        width,
        indent=0,
        style="dim",
    )
    for search in view.searches:
        lines += [Text(), *search_report(search, view.at_least, width)]
    for found in view.regimes:
        if table := regime_table(found, width):
            lines += [Text(), *table]
    lines += _failures(view, width)
    lines += _nodes(view, width)
    lines += _footnotes(view, width)
    return lines


def search_report(search: SearchView, at_least: float, width: int) -> list[Text]:
    """One search: heading, levels, variants, claim."""
    lines = [Text(search.label, "bold cyan")]
    lines += [line for level in levels(search) for line in paragraph(level, width, style="dim")]
    for warning in warnings(search):
        lines += paragraph(f"warning: {warning}", width, style="yellow")
    if search.failed:
        sentence, *counts = search.failed.split("\n")
        lines += paragraph(f"failed: {sentence}", width, style="red")
        lines += [Text(f"    {line}", "red") for line in counts]
    elif search.begun:
        lines.append(Text())
        wide = _wide(search, at_least, width) if width >= WIDE else []
        fits = wide and all(line.cell_len <= width for line in wide)
        lines += wide if fits else _narrow(search, at_least, width)
        lines += _metrics(search, width)
    lines.append(Text())
    lines += paragraph(claim(search, at_least), width)
    return lines


def overview(views: Sequence[PlanView], width: int) -> list[Text]:
    """All plans of a record: one line a search."""
    lines: list[Text] = []
    for view in views:
        where = "finished" if view.finished else "not finished"
        lines.append(pulled_apart(Text(view.name, "bold"), Text(f"{view.id[:8]}  {where}", "dim"), width))
        rows: list[list[Text | str]] = []
        for search in view.searches:
            best = search.best
            found = Text("failed", "red") if search.failed else Text("nothing confirmed", "dim")
            rows.append(
                [
                    search.label,
                    percent(search.stages[-1].baseline_mean or search.stages[0].baseline_mean),
                    shortened(best.name, width // 4) if best else "",
                    points(best.mean) if best else "",
                    interval(best) if best and width >= WIDE else "",
                    worded(verdict(best)) if best else found,
                ]
            )
        lines += [*columns(rows, "<><>><", width=width), Text()]
    notes = (
        "Of each search: the baseline's score and the best confirmed variant.",
        "`fsearch report PLAN` shows one plan in full.",
    )
    return lines + [line for note in notes for line in paragraph(note, width, indent=0, style="dim")]


def levels(search: SearchView) -> list[str]:
    """What the baseline scores, what was scored, and how large the noise is: a sentence each."""
    scores = []
    for stage in search.stages:
        if stage.baseline_mean is not None:
            seeds = len(stage.baseline_scores)
            over = f" ({seeds} seeds)" if seeds > 1 else ""
            scores.append(f"{stage.name} {percent(stage.baseline_mean)}{over}")
    levels = [f"{BASELINE} {', '.join(scores)}"] if scores else []
    if search.chance is not None:
        levels.append(f"chance {percent(search.chance)}")
    if search.majority is not None:
        levels.append(f"majority answer {percent(search.majority)}")
    lines = (
        [] if search.metric == SCORE else [f"decided on {search.metric}: scores and differences are of it"]
    )
    lines += ["; ".join(levels)] if levels else []
    last = search.stages[-1]
    if last.baseline_scores and search.examples is not None:
        of = f"{search.examples} examples" + (" (confirm half)" if search.half == "confirm" else "")
        if search.completed is not None:
            of += f", completions of {search.completed} of them"
            of += {"bwrap": ", run in the sandbox", "unsafe": ", run without a sandbox"}.get(
                search.code_exec, ""
            )
        batch = f"batch {search.batch}" + (" (the largest that fits)" if search.largest else "")
        lines.append(f"{last.name}: {last.steps} steps of {batch}, scored on {of}")
    if said := recomputation(search):
        lines.append(said)
    if search.noise_sd is not None and search.prune_below is not None:
        noise = f"noise of a difference: sd {search.noise_sd * 100:.2f} pp ({search.noise_seeds} seeds)"
        if search.card is not None:
            noise += f"; {operating_card(search.card)}"
        lines.append(noise)
    elif search.screened and search.begun:
        lines.append("noise and operating card: not known, as there is no noise floor (noise_floor_seeds)")
    return lines


def _wide(search: SearchView, at_least: float, width: int) -> list[Text]:
    screens = [stage.name for stage in search.stages[:-1]]
    last = search.stages[-1].name
    head = ["variant", *(cell for name in screens for cell in (name, "")), last, "95 % interval", "seeds"]
    head += ["p(>0)", f"p(>={margin(at_least)})", "drafts", "verdict"]
    rows: list[list[Text | str]] = [[Text(cell, "dim") for cell in head]]
    for variant in search.variants:
        row: list[Text | str] = [variant.name]
        for at in range(len(screens)):
            if at < len(variant.screens) and not variant.same_as:
                screened = variant.screens[at]
                row += [points(screened.d_acc), worded(screened.decision)]
            else:
                row += ["", ""]
        if variant.differences and not variant.same_as:
            row += [points(variant.mean), interval(variant), str(len(variant.differences))]
            row += [p_value(variant.p_better), p_value(variant.p_at_least), points(variant.drafts_delta)]
        else:
            row += [""] * 6
        rows.append([*row, worded(verdict(variant))])
    table = columns(rows, "<" + "><" * len(screens) + ">>>>>><", width=width)
    lines = []
    for at, line in enumerate(table):
        lines.append(line)
        if at:
            lines += _beside(search.variants[at - 1], width)
            lines += _why(search, at - 1, width)
    return lines


def _narrow(search: SearchView, at_least: float, width: int) -> list[Text]:
    screens = [stage.name for stage in search.stages[:-1]]
    head = ["variant", *(cell for name in screens for cell in (name, ""))]
    rows: list[list[Text | str]] = [[Text(cell, "dim") for cell in [*head, "verdict"]]]
    for variant in search.variants:
        row: list[Text | str] = [variant.name]
        for at in range(len(screens)):
            if at < len(variant.screens) and not variant.same_as:
                row += [points(variant.screens[at].d_acc), worded(variant.screens[at].decision)]
            else:
                row += ["", ""]
        rows.append([*row, worded(verdict(variant))])
    table = columns(rows, "<" + "><" * len(screens) + "<", width=width)
    lines = []
    for at, line in enumerate(table):
        lines.append(line)
        if at and (confirmed := _confirmed(search, search.variants[at - 1])):
            lines.append(Text(f"      {confirmed}"))
            lines += _p_values(search.variants[at - 1], at_least, width)
        if at:
            lines += _beside(search.variants[at - 1], width)
        lines += _why(search, at - 1, width)
    return lines


def _confirmed(search: SearchView, variant: VariantView) -> str:
    """The confirmation of a variant on one line of at most 74 columns."""
    if not variant.differences or variant.same_as:
        return ""
    seeds = len(variant.differences)
    parts = [f"{search.stages[-1].name} {points(variant.mean)}"]
    if variant.low is not None:
        parts.append(interval(variant))
    parts.append(f"{seeds} seed{'s' if seeds > 1 else ''}")
    if variant.drafts_delta is not None:
        parts.append(f"drafts {points(variant.drafts_delta)}")
    return "  ".join(parts)


def _p_values(variant: VariantView, at_least: float, width: int) -> list[Text]:
    if variant.p_better is None:
        return []
    better, by_margin = p_value(variant.p_better), p_value(variant.p_at_least)
    return paragraph(f"p(>0) {better}; p(>={margin(at_least)}) {by_margin}", width, indent=6)


def _beside(variant: VariantView, width: int) -> list[Text]:
    """What stands beside the interval over seeds: loss, and what other questions would change."""
    if variant.same_as:
        return []
    parts = []
    if loss := variant.loss:
        parts.append(f"loss {loss.mean:+.3f} [{loss.low:+.3f}, {loss.high:+.3f}]")
    if found := variant.examples:
        parts.append(f"questions {bounds(found.low, found.high)}")
        if found.mcnemar:
            parts.append(f"McNemar p {' '.join(p_value(test.p) for test in found.mcnemar)}")
    lines = paragraph("; ".join(parts), width, indent=6, style="dim") if parts else []
    if variant.loss and variant.loss.disagrees:
        better, worse = ("accuracy", "loss") if (variant.mean or 0) > 0 else ("loss", "accuracy")
        note = f"warning: its {better} is better and its {worse} worse, both beyond the noise"
        lines += paragraph(note, width, indent=6, style="yellow")
    return lines


def _why(search: SearchView, index: int, width: int) -> list[Text]:
    if index < 0:
        return []
    variant = search.variants[index]
    if not variant.reason or variant.same_as or variant.verdict == "not_promoted":
        return []
    return paragraph(variant.reason, width, indent=6, style="red" if variant.verdict == "failed" else "dim")


def _metrics(search: SearchView, width: int) -> list[Text]:
    """The metrics of the best confirmed variant beside the baseline's, where the task has its own."""
    best = search.best
    if best is None or len(best.metrics) < 2:
        return []
    each = (f"{name} {found.baseline:.3f} -> {found.variant:.3f}" for name, found in best.metrics.items())
    text = f"{search.stages[-1].name}, {BASELINE} -> {best.name}: {', '.join(each)}"
    return [Text(), *paragraph(text, width, style="dim")]


def _failures(view: PlanView, width: int) -> list[Text]:
    """The failures that no search and no variant has shown with its reason."""
    rows = [row for row in view.failures if row.variant in ("", BASELINE) and not _search_failed(view, row)]
    lines = [Text(), Text("failures", "bold red")] if rows else []
    for row in rows:
        tries = f" in {len(row.tries)} tries" if len(row.tries) > 1 else ""
        what = " ".join(part for part in (row.search, row.stage, row.variant, _seed(row)) if part)
        lines += paragraph(f"{what}: {row.attempt.outcome}{tries}: {row.attempt.reason}", width)
    return lines


def _nodes(view: PlanView, width: int) -> list[Text]:
    """What each node of a cluster has done."""
    rows: list[list[Text | str]] = []
    for use in view.nodes:
        lost = f"{use.lost} lost" if use.lost else ""
        rows.append([f"  {use.node}", f"{use.tries} attempts", lost, duration(use.seconds), use.device])
    return [Text(), Text("nodes", "bold"), *columns(rows, "<>>><", width=width)] if rows else []


def _search_failed(view: PlanView, row: Row) -> bool:
    if row.stage == "inspect":
        return any(search.failed for search in view.searches)
    return row.search_index is not None and bool(view.searches[row.search_index].failed)


def _seed(row: Row) -> str:
    return f"seed {row.attempt.spec.seed}" if row.attempt.spec.role in ("screen", "confirm") else ""


def _notes_on_tests(view: PlanView) -> list[str]:
    levels = f"{FIRST_LEVEL:g} after the first seeds and {SECOND_LEVEL:g} after a top-up"
    against = levels if view.tops_up else f"{view.alpha:g}"
    notes = [
        "The interval is a paired t over seeds, two-sided 95 %, of one variant alone. p(>0) and "
        f"p(>={margin(view.at_least)}) are one-sided and corrected (Holm) over all promoted variants of the "
        f"plan ({view.promoted}); a verdict holds them against {against}. So a claim can stand beside an "
        "interval that just reaches over zero: the interval is for both directions, the claim for one."
    ]
    confirmed = [variant for search in view.searches for variant in search.variants if variant.differences]
    if any(variant.loss for variant in confirmed):
        notes.append(
            "loss: the variant's minus the baseline's, nats a token, with its interval over seeds; less is "
            "better."
        )
    if any(variant.examples for variant in confirmed):
        exact = any(variant.examples and variant.examples.mcnemar for variant in confirmed)
        mcnemar = "; McNemar's exact test, seed by seed" if exact else ""
        notes.append(
            "questions: 95 % interval of the same mean over other questions, for these very checkpoints "
            f"(bootstrap of whole source documents{mcnemar}). It says whether more questions would change "
            "the finding, not whether another training would."
        )
    return notes


def _footnotes(view: PlanView, width: int) -> list[Text]:
    notes = footnotes(view)
    return [Text()] * bool(notes) + [
        line for note in notes for line in paragraph(note, width, indent=0, style="dim")
    ]


def footnotes(view: PlanView) -> list[str]:
    """What the figures of a plan mean, as far as it has them."""
    notes = []
    if any(variant.differences for search in view.searches for variant in search.variants):
        notes += _notes_on_tests(view)
        notes.append(
            "drafts: the variant's last stage minus the baseline's first, as the drafts reported it; "
            "it is not a matched comparison."
        )
    if view.apart:
        them = "comparison is" if view.apart == 1 else "comparisons are"
        notes.append(
            f"{view.apart} {them} between two nodes of one kind, because the baseline's was lost before the "
            "variant had run; all others are within a node."
        )
    if view.superseded:
        rows = "row is" if view.superseded == 1 else "rows are"
        notes.append(f"{view.superseded} {rows} kept from other code, data or machine, and not used.")
    return notes
