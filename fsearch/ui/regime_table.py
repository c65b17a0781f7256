"""The regimes of a task as lines: one table over all its searches, and best against best."""

from __future__ import annotations

from rich.text import Text

from fsearch.plan import BASELINE
from fsearch.search.regimes import BestAgainstBest, TaskRegimes
from fsearch.ui.layout import columns, cut, paragraph, shortened
from fsearch.ui.words import bounds, place, points

_NOTE = (
    "flip: with another search or first layer the variant "
    "goes the other way, both beyond the noise; flip?: only the other one is."
)
_NOTE_BEST = (
    "Best against best: each arm at its own best learning rate, chosen on the screen half and compared on "
    "the confirm half, seed by seed. The interval does not know of the choice."
)


def regime_table(found: TaskRegimes, width: int) -> list[Text]:
    """A task that has several searches, or a variant that goes both ways; nothing of others."""
    if not found.rows or (found.searches < 2 and not any(row.sign for row in found.rows)):
        return []
    lines = [Text(f"where it holds: {found.task}", "bold cyan"), Text()]
    head = ["variant", "d_acc", "95 % interval", "seeds", "", "where"]
    rows: list[list[Text | str]] = [[Text(cell, "dim") for cell in head]]
    above = ""
    for row in found.rows:
        name = "" if row.variant == above else shortened(row.variant, width // 3)
        above = row.variant
        sign = "replay" if row.replay_of else row.sign
        interval = bounds(row.low, row.high) or f"{row.stage}, one seed"
        colour = "red" if sign == "flip" else "yellow"
        cells: list[Text | str] = [name, points(row.mean), interval, str(row.seeds)]
        rows.append([*cells, Text(sign, colour), place(row.where)])
    lines += [cut(line, width) for line in columns(rows, "<>>><<")]
    below: list[Text] = []
    for row in found.rows:
        if row.replay_of:
            words = f"{row.variant} ({place(row.where)}): its runs are those of {row.replay_of}, to the bit"
            below += paragraph(words, width)
    for one in found.best:
        below += _best(one, width)
    if any(row.sign for row in found.rows):
        below += paragraph(_NOTE, width, style="dim")
    if found.best:
        below += paragraph(_NOTE_BEST, width, style="dim")
    return [*lines, Text(), *below] if below else lines


def _best(found: BestAgainstBest, width: int) -> list[Text]:
    where = f" ({place(found.where)})" if found.where else ""
    rates = f"its learning rate {found.variant_lr:g} against {found.baseline_lr:g} of {BASELINE}"
    if found.mean is None:
        return paragraph(f"{found.variant}{where}, {rates}: not known, as {found.unknown}", width)
    interval = bounds(found.low, found.high)
    lines = paragraph(f"{found.variant}{where}, {rates}: {points(found.mean)} {interval}", width)
    if found.only_where_the_baseline_is_bad:
        at = " and ".join(f"{lr:g}" for lr in found.gains_at)
        warning = f"warning: its gain at {at} is one over a {BASELINE} whose best learning rate is another"
        lines += paragraph(warning, width, style="yellow")
    return lines
