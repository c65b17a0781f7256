"""The plots of where the device's time and energy went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fsearch.ui.costs import PURPOSES, Cost, Purpose
from fsearch.ui.plot_rows import WIDTH, Line, height_of, row_axes
from fsearch.ui.svg import COLOURS, Plot, hint, plot
from fsearch.ui.words import MILLIJOULES, duration, energy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def time(name: str, costs: Sequence[Cost]) -> Plot:
    """The device's time by outcome, each bar in parts by purpose."""
    longest = max(_by_outcome(costs, lambda cost: cost.seconds).values())
    unit, length = next(
        (unit, length)
        for unit, length in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
        if longest >= 2 * length or unit == "seconds"
    )
    return _spent(name, "Device time by outcome", costs, unit, length, lambda cost: cost.seconds, duration)


def energies(name: str, costs: Sequence[Cost]) -> Plot:
    """The device's energy by outcome, each bar in parts by purpose."""
    return _spent(
        name, "Energy by outcome", costs, "Wh", MILLIJOULES, lambda cost: cost.energy_mj or 0.0, energy
    )


def _spent(
    name: str,
    title: str,
    costs: Sequence[Cost],
    unit: str,
    size: float,  # of the unit
    amount: Callable[[Cost], float],
    worded: Callable[[float], str],
) -> Plot:
    whole = _by_outcome(costs, amount)
    tries = _by_outcome(costs, lambda cost: cost.tries)
    lines = [
        Line(outcome, f"{worded(spent)} in {_tries(int(tries[outcome]))}") for outcome, spent in whole.items()
    ]
    purposes = [purpose for purpose in PURPOSES if any(cost.purpose == purpose for cost in costs)]

    def draw(figure: Figure) -> None:
        from matplotlib.patches import Patch

        axes = row_axes(figure, lines, unit)
        for at, outcome in enumerate(whole):
            begin = 0.0
            for cost in (cost for cost in costs if cost.outcome == outcome):
                said = f"{outcome}, {cost.purpose}: {worded(amount(cost))} in {_tries(cost.tries)}"
                long = amount(cost) / size
                axes.barh(at, long, left=begin, height=0.4, color=_of_purpose(cost.purpose), gid=hint(said))
                begin += long
        axes.set_xlim(0, max(whole.values()) / size * 1.02)
        patches = [Patch(color=_of_purpose(purpose), label=purpose) for purpose in purposes]
        figure.legend(handles=patches, loc="outside lower left", ncols=2)

    height = height_of(lines) + 0.25 * ((len(purposes) + 1) // 2)
    return plot(name, title, f"{'; '.join(map(str, lines))}.", WIDTH, height, draw)


def _by_outcome(costs: Sequence[Cost], amount: Callable[[Cost], float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for cost in costs:
        found[cost.outcome] = found.get(cost.outcome, 0.0) + amount(cost)
    return found


def _of_purpose(purpose: Purpose) -> str:
    return COLOURS[f"series-{PURPOSES.index(purpose)}"]


def _tries(count: int) -> str:
    return f"{count} {'try' if count == 1 else 'tries'}"
