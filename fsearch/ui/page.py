"""The report as one HTML page that needs nothing else: no script, no network, no font, no file beside it.

The template escapes all that it is given; what is markup already, the plots, was made by an XML writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fsearch import __version__
from fsearch.ui import cost_plots, curve_plots, plain_tables, plots
from fsearch.ui.findings import Findings
from fsearch.ui.plain_tables import Table
from fsearch.ui.svg import Plot
from fsearch.ui.table import footnotes, levels
from fsearch.ui.view import SearchView
from fsearch.ui.words import margin

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One search: its levels, plots and tables."""

    search: SearchView
    levels: list[str]
    learning: list[Plot]
    tables: list[Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One plan, ready to be laid out."""

    anchor: str
    found: Findings
    searches: list[Figures]
    overview: Table
    forests: list[Plot]
    noise: list[Plot]
    heat_maps: list[Plot]
    spent: list[Plot]
    regimes: list[Table]
    costs: Table
    nodes: Table
    failures: Table
    notes: list[str]


def page(found: Sequence[Findings]) -> str:
    """The page of the given plans; the same record gives the same page."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(margin=margin)
    sections = [_section(f"plan-{number}", one) for number, one in enumerate(found, 1)]
    whole = plain_tables.overview([one.view for one in found]) if len(found) > 1 else None
    title = f"fsearch: {found[0].view.name}" if len(found) == 1 else f"fsearch: {len(found)} plans"
    template = environment.get_template("report.html")
    return template.render(title=title, sections=sections, overview=whole, version=__version__)


def _section(anchor: str, found: Findings) -> Section:
    view = found.view
    tasks = [(f"{anchor}-task-{at}", task) for at, task in enumerate(view.regimes) if task.rows]
    spent = []
    if any(cost.seconds for cost in found.costs):
        spent.append(cost_plots.time(f"{anchor}-time", found.costs))
    if any(cost.energy_mj for cost in found.costs):
        spent.append(cost_plots.energies(f"{anchor}-energy", found.costs))
    regimes = [plain_tables.regimes(task) for _, task in tasks if task.searches > 1]
    best = [table for task in view.regimes if (table := plain_tables.best_against_best(task))]
    return Section(
        anchor=anchor,
        found=found,
        searches=[
            _figures(f"{anchor}-search-{at}", at, search, found) for at, search in enumerate(view.searches)
        ],
        overview=plain_tables.overview([view]),
        forests=[one for name, task in tasks for one in plots.forest(f"{name}-forest", task, view.at_least)],
        noise=plots.noise(f"{anchor}-noise", view.searches, view.at_least),
        heat_maps=[plots.heat_map(f"{anchor}-map-{at}", one) for at, one in enumerate(found.heat_maps)],
        spent=spent,
        regimes=regimes + best,
        costs=plain_tables.costs(found.costs),
        nodes=plain_tables.nodes(view.nodes),
        failures=plain_tables.failures(found.failures),
        notes=footnotes(view),
    )


def _figures(name: str, index: int, search: SearchView, found: Findings) -> Figures:
    curves = [curve for curve in found.curves if curve.search_index == index]
    variants = plain_tables.variants(search, found.view.at_least)
    metrics = plain_tables.metrics(search)
    return Figures(
        search=search,
        levels=levels(search),
        learning=curve_plots.learning(f"{name}-curves", curves),
        tables=[] if search.failed else [variants, *([metrics] if metrics else [])],
    )
