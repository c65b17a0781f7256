"""The report as a page: whole in one file, nothing in it is markup but ours, and it fits every screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fsearch.ui.findings import Findings, findings_of
from fsearch.ui.page import page
from fsearch.ui.state import looking
from fsearch.ui.table import overview, plan_report
from fsearch.ui.view import Snapshot
from tests.ui import large_record
from tests.ui.browser import CHROMIUM, Browser
from tests.ui.commands import fsearch
from tests.ui.record import PLAN, fill, the_plan

VOID = {"meta", "link", "br", "hr", "img", "input"}
ADDRESSES = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background", "formaction"}
HOSTILE = "<script>alert(1)</script>\"'><img src=https://x.test/y onerror=alert(2)> & $x$ </style>"


class Page(HTMLParser):
    """The elements of a page, and whether they are nested well."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.styles = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles += data
        elif data.strip():
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of this kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def findings(state: Path, text: str) -> Findings:
    plan = the_plan(text)
    with looking(state) as reader:
        return findings_of(Snapshot(reader, [plan]).view(plan, reader.example_values), reader)


@pytest.fixture(scope="module")
def small(whole: Path) -> Findings:
    return findings(whole, PLAN)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    state = tmp_path_factory.mktemp("large") / "state"
    large_record.fill_large(state)
    return findings(state, large_record.PLAN)


@pytest.fixture(scope="module")
def files(small: Findings, large: Findings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of one plan, of a larger one, and of both."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {"small": page([small]), "large": page([large]), "both": page([small, large])}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in pages}


def assert_self_contained(parsed: Page) -> None:
    """Nothing is fetched: every address is a place in the page itself, or written out."""
    for tag, attributes in parsed.elements:
        assert tag not in (
            "script",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "image",
            "img",
            "foreignobject",
        )
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ADDRESSES:
                assert value.startswith("#") or value == "data:,", (tag, name, value)
                assert value == "data:," or value[1:] in parsed.ids, (tag, name, value)
            if "url(" in value:
                (target,) = re.findall(r"url\(([^)]*)\)", value)
                assert target.startswith("#") and target[1:] in parsed.ids, (tag, name, value)
            if tag != "meta" and name != "aria-label":
                assert "//" not in value, (tag, name, value)
    assert "url(" not in parsed.styles and "@import" not in parsed.styles and "//" not in parsed.styles
    assert len(parsed.ids) == len(set(parsed.ids))


@pytest.mark.parametrize("name", ["small", "large", "both"])
def test_a_page_needs_nothing_else(files: dict[str, Path], name: str) -> None:
    """No script, no address but of the page itself, no id twice; and a policy that would refuse the rest."""
    parsed = Page(files[name].read_text())
    assert_self_contained(parsed)
    (policy,) = [meta["content"] for meta in parsed.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("name", ["small", "large"])
def test_figures_and_tables_can_be_read_aloud(files: dict[str, Path], name: str) -> None:
    """Every plot has a title and says in words what it shows; every table has a caption and headers."""
    parsed = Page(files[name].read_text())
    plots = [attributes for attributes in parsed.all("svg") if attributes.get("role") == "img"]
    assert len(plots) == len(parsed.all("svg")) == len(parsed.all("figure"))
    for attributes in plots:
        assert attributes["aria-labelledby"] in parsed.ids and attributes["aria-describedby"] in parsed.ids
    assert len(parsed.all("table")) == len(parsed.all("caption")) == len(parsed.all("thead"))
    assert all(header["scope"] in ("row", "col") for header in parsed.all("th"))


def test_every_plot_that_was_asked_for_is_there(large: Findings, files: dict[str, Path]) -> None:
    """Forest, noise, curves of every stage of every search, heat maps, time and energy; by their ids."""
    ids = Page(files["large"].read_text()).ids
    titles = [name.removesuffix("-title") for name in ids if name.endswith("-title")]

    def count(part: str) -> int:
        return sum(part in name for name in titles)

    assert len(large.view.searches) == 8
    assert count("-curves-") == 8 * 2
    assert count("-forest-") == 3  # 32 rows, 14 a plot
    assert count("-map-") == len(large.heat_maps) == 4  # two learning rates of two families
    assert [count("-noise-"), count("-time"), count("-energy")] == [1, 1, 1]
    grid = large.heat_maps[0]
    assert (grid.batches, grid.orders, grid.layers) == ((8, 32), ("q_after", "q_first"), (1, 2, 3))
    assert len(grid.cells) == 12


def test_the_page_is_the_same_every_time(small: Findings, files: dict[str, Path]) -> None:
    """The same record gives the same bytes: no date, no random id."""
    assert page([small]) == files["small"].read_text()


def test_the_plots_have_the_colours_of_the_page(files: dict[str, Path]) -> None:
    """No colour of a plot is its own: all are variables of the page, which has them for dark and light."""
    parsed = Page(files["large"].read_text())
    styles = [attributes.get("style", "") for _, attributes in parsed.elements]
    assert not [style for style in styles if re.search(r"(fill|stroke|color): *#", style)]
    used = {name for style in styles for name in re.findall(r"var\((--[a-z0-9-]+)\)", style)}
    assert {"--plot-ink", "--plot-gain", "--plot-loss", "--plot-series-0", "--sans"} <= used
    light, dark = parsed.styles.split("prefers-color-scheme: dark")
    assert all(f"{name}:" in light for name in used)
    assert all(f"{name}:" in dark for name in used - {"--sans"})


def test_nothing_that_was_recorded_becomes_markup(small: Findings) -> None:
    """Names, labels and reasons are text wherever they are shown, in tables, sentences and plots."""
    tame = Page(page([small]))
    names = {"name", "label", "task", "variant", "search", "reason", "stage", "failed", "order", "outcome"}
    parsed = Page(page([_with(small, names)]))
    assert_self_contained(parsed)
    assert {tag for tag, _ in parsed.elements} == {tag for tag, _ in tame.elements}
    assert any(HOSTILE in text for text in parsed.texts)


def _with(value: Any, names: set[str], name: str = "") -> Any:
    """The same, every text under one of the names made hostile."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {
            one.name: _with(getattr(value, one.name), names, one.name)
            for one in fields(value)
            if one.init and one.name not in ("rows", "attempt")
        }
        return replace(value, **found)
    if isinstance(value, tuple):
        return tuple(_with(one, names, name) for one in value)
    if isinstance(value, str):
        shown = name in names or name in ("tested", "may", "may_not", "drafts", "minded", "variants")
        return f"{value}{HOSTILE}" if shown and value != "no_fs" else value
    return value


UNSCREENED = re.sub("screen: .*\n|  - {name: quick.*\n", "", PLAN)


@pytest.mark.parametrize(("text", "steps"), [(PLAN, 1), (PLAN, 4), (PLAN, 14), (UNSCREENED, 8)])
def test_a_page_at_any_moment(tmp_path: Path, text: str, steps: int) -> None:
    """Before anything has run, with data alone, in the middle of a screen, and without a screen."""
    fill(tmp_path / "state", the_plan(text), stop_after=steps, running=steps > 4)
    found = findings(tmp_path / "state", text)
    parsed = Page(page([found]))
    assert_self_contained(parsed)
    assert len(parsed.all("figure")) >= (1 if found.curves else 0)
    assert not [claims.may for task in found.claims for claims in task.searches if claims.may]


@pytest.mark.parametrize("width", [80, 104, 120, 160])
def test_in_the_terminal_long_names_give_way(large: Findings, small: Findings, width: int) -> None:
    """No line is wider than the terminal, in full and in brief; both ends of a name are shown."""
    for lines in (plan_report(large.view, width), overview([large.view, small.view], width)):
        assert max(line.cell_len for line in lines) <= width
        assert any("…" in line.plain and "can_be" in line.plain for line in lines)


def test_the_command_writes_the_page(whole: Path, tmp_path: Path) -> None:
    """One file, named on stderr; with --json the machine's twin still goes to stdout alone."""
    done = fsearch("report", "--state", whole, "--html", "found.html", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout[:1]) == (0, "{")
    assert re.fullmatch(r"wrote found.html \(\d+ kB\)\n", done.stderr)
    assert [file.name for file in tmp_path.iterdir()] == ["found.html"]
    assert_self_contained(Page((tmp_path / "found.html").read_text()))
    printed = fsearch("report", "--state", whole, "--html", "-", cwd=tmp_path)
    assert (printed.stdout, printed.stderr) == ((tmp_path / "found.html").read_text(), "")
    refused = fsearch("report", "--state", whole, "--html", "no/such/folder.html", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == (
        "no/such/folder.html: the report cannot be written (No such file or directory).\n"
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed here (Debian: apt-get install chromium)")
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


TOO_WIDE = """
[...document.querySelectorAll('body *')]
  .filter(one => !one.closest('.scroll table') && !one.closest('svg'))
  .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
  .map(one => one.outerHTML.slice(0, 120))
"""
DRAWN = """
[...document.querySelectorAll('svg')]
  .map(one => one.getBoundingClientRect())
  .map(box => [box.width, box.height])
"""
TEXTS = """
[...document.querySelectorAll('svg')].flatMap(svg => {
  const box = svg.getBoundingClientRect()
  return [...svg.querySelectorAll('text')]
    .filter(one => {
      const own = one.getBoundingClientRect()
      return own.left < box.left - 6 || own.right > box.right + 6
    })
    .map(one => one.textContent)
})
"""
INK = "getComputedStyle(document.querySelector('svg text')).fill"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("name", ["small", "large"])
def test_a_page_in_chromium(
    files: dict[str, Path], browser: Browser, name: str, width: int, dark: bool
) -> None:
    """Nothing on the console, nothing asked for, every plot drawn, nothing wider than page or plot."""
    browser.open(files[name], width, dark=dark)
    assert browser.said() == []
    assert browser.requested() == [files[name].as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(TOO_WIDE) == []
    drawn = browser.evaluate(DRAWN)
    assert len(drawn) == len(Page(files[name].read_text()).all("figure"))
    assert all(wide > 0.5 * min(width, 560) and high > 50 for wide, high in drawn)
    assert browser.evaluate(TEXTS) == []
    assert browser.evaluate(INK) == ("rgb(227, 231, 236)" if dark else "rgb(27, 31, 36)")


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_page_can_be_printed(files: dict[str, Path], browser: Browser, name: str) -> None:
    """On paper as wide as A4 without its margins nothing is cut, tables included; the ink is dark."""
    browser.open(files[name], 700, dark=True, printed=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == 700
    assert browser.evaluate(INK) == "rgb(27, 31, 36)"
