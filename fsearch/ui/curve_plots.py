"""The plots of learning curves: variants against the baseline, and where they were pruned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fsearch.plan import BASELINE
from fsearch.ui.curves import Curve
from fsearch.ui.layout import shortened
from fsearch.ui.plot_rows import WIDTH
from fsearch.ui.svg import COLOURS, SERIES, Plot, hint, plot
from fsearch.ui.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST = 24  # letters of a name in a legend of two columns
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))


def learning(name: str, curves: Sequence[Curve]) -> list[Plot]:
    """The curves of one search: a plot for each of its stages."""
    stages = dict.fromkeys((curve.stage, curve.role) for curve in curves)
    found = []
    for at, (stage, role) in enumerate(stages):
        own = [curve for curve in curves if (curve.stage, curve.role) == (stage, role)]
        drawn = _screening if role == "screen" else _confirming
        found.append(drawn(f"{name}-{at}", f"{own[0].search}: {stage}", own))
    return found


def _screening(name: str, title: str, curves: Sequence[Curve]) -> Plot:
    """The screening seed; variants that were pruned end in a cross, and are grey."""
    seed = curves[0].seed
    own = [curve for curve in curves if curve.seed == seed]
    baseline = [curve for curve in own if curve.variant == BASELINE]
    pruned = [curve for curve in own if curve.decision == "prune"]
    others = [curve for curve in own if curve.variant != BASELINE and curve not in pruned]

    def draw(figure: Figure) -> None:
        axes = _curve_axes(figure)
        for number, curve in enumerate(pruned):
            label = f"pruned ({len(pruned)})" if number == 0 else ""
            _curve(axes, curve, COLOURS["faint"], linewidth=1.2, label=label)
            step, score = _end(curve)
            axes.plot(
                [step], [score], "x", markersize=8, mew=2, color=COLOURS["loss"], gid=hint(_told(curve))
            )
        for curve, style in zip(others, _styles(), strict=False):
            _curve(
                axes,
                curve,
                style[0],
                linestyle=style[1],
                linewidth=1.8,
                label=shortened(curve.variant, _LONGEST),
            )
        for curve in baseline:
            _curve(axes, curve, COLOURS["ink"], linewidth=3, label=BASELINE)
        _legend(figure)

    said = f"Accuracy against steps, seed {seed}. {'. '.join(map(_told, own))}."
    return plot(name, title, said, WIDTH, _curve_height(1 + bool(pruned) + len(others)), draw)


def _confirming(name: str, title: str, curves: Sequence[Curve]) -> Plot:
    """Every seed thin, their mean thick."""
    variants = list(dict.fromkeys(curve.variant for curve in curves))
    styles: dict[str, tuple[str, Any]] = {BASELINE: (COLOURS["ink"], "-")}
    others = [variant for variant in variants if variant != BASELINE]
    styles |= dict(zip(others, _styles(), strict=False))
    told = []
    for variant in variants:
        own = [curve for curve in curves if curve.variant == variant]
        mean = percent(fmean(_end(curve)[1] for curve in own) / 100)
        told.append(f"{variant}: {mean} at the end, mean of {len(own)} seeds")

    def draw(figure: Figure) -> None:
        axes = _curve_axes(figure)
        for variant in [*others, *(variant for variant in variants if variant == BASELINE)]:
            colour, dashes = styles[variant]
            own = [curve for curve in curves if curve.variant == variant]
            for curve in own:
                _curve(axes, curve, colour, linewidth=0.8, alpha=0.4)
            mean = _mean(own)
            thick = 3 if variant == BASELINE else 1.8
            axes.plot(
                *mean, color=colour, linestyle=dashes, linewidth=thick, label=shortened(variant, _LONGEST)
            )
        _legend(figure)

    return plot(
        name, title, f"Accuracy against steps. {'; '.join(told)}.", WIDTH, _curve_height(len(variants)), draw
    )


def _curve_height(entries: int) -> float:
    """With its legend of two columns."""
    return 3.0 + 0.22 * ((entries + 1) // 2)


def _curve_axes(figure: Figure) -> Axes:
    axes = figure.subplots()
    axes.grid(linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("steps")
    axes.set_ylabel("accuracy, %")
    return axes


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside lower left", ncols=2)


def _styles() -> Iterable[tuple[str, Any]]:
    """Colours, and dashes once they are used up."""
    return ((COLOURS[f"series-{number}"], dashes) for dashes in cycle(_DASHES) for number in range(SERIES))


def _curve(axes: Axes, curve: Curve, colour: str, **style: Any) -> None:
    known = [(point.step, point.score * 100) for point in curve.points if point.score is not None]
    axes.plot(*zip(*known, strict=True), color=colour, gid=hint(_told(curve)), **style)


def _mean(curves: Sequence[Curve]) -> tuple[list[int], list[float]]:
    """The mean of the scores at every step that all of them have."""
    scores: dict[int, list[float]] = {}
    for curve in curves:
        for point in curve.points:
            if point.score is not None:
                scores.setdefault(point.step, []).append(point.score * 100)
    steps = sorted(step for step, found in scores.items() if len(found) == len(curves))
    return steps, [fmean(scores[step]) for step in steps]


def _end(curve: Curve) -> tuple[int, float]:
    """The last step, and its score in percent."""
    return next(
        (point.step, point.score * 100) for point in reversed(curve.points) if point.score is not None
    )


def _told(curve: Curve) -> str:
    step, score = _end(curve)
    verb = {"prune": "pruned", "keep": "kept", "promote": "promoted"}.get(curve.decision or "", "")
    return f"{curve.variant} seed {curve.seed}: {score:.1f} % after {step} steps{f', {verb}' if verb else ''}"
