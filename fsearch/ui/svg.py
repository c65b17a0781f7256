"""A matplotlib figure as SVG inside a page: in the page's colours and font, the same bytes every time.

Colours are names of the page's CSS variables (`--plot-ink`, ...), so that a plot follows dark and light.
matplotlib draws with a stand-in for each; what it writes is parsed, never edited as text, so that no label
can become markup. It is imported when something is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = 8
"""Colours for lines that are told apart; after these, dashes."""

_NAMES = ("ink", "faint", "grid", "gain", "loss", *(f"series-{number}" for number in range(SERIES)))
COLOURS: Mapping[str, str] = {name: f"#01{number:02x}01" for number, name in enumerate(_NAMES)}
"""The stand-in for each variable of the page."""

_VARIABLES = {stand_in: f"var(--plot-{name})" for name, stand_in in COLOURS.items()}
_STAND_IN = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"(font:[^;]*?[\d.]+px|font-family:)[^;]*")  # as older and newer releases write it
_INCH = 72  # units of the SVG

_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, found and copied
    "text.parse_math": False,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["faint"],
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A figure of a page."""

    title: str
    description: str  # in words, for those who do not see it
    svg: str  # markup


def plot(
    name: str, title: str, description: str, width: float, height: float, draw: Callable[[Figure], None]
) -> Plot:
    """What `draw` puts on a figure of so many inches; `name` tells it from the other plots of the page.

    A gid that `draw` gives to a line or patch becomes the hint that is shown over it.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the page's font has it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        matplotlib.rcParams["svg.hashsalt"] = f"fsearch {name}"
        figure = Figure(figsize=(width, height), dpi=_INCH, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    return Plot(title=title, description=description, svg=_inline(root, name, title, description))


def _inline(root: ElementTree.Element, name: str, title: str, description: str) -> str:
    """The SVG without namespaces, metadata and styles of its own, its ids made the page's only ones."""
    for parent in root.iter():
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _attribute(key, value, name) for key, value in attributes.items()})
        if hint := _hint(attributes.get("id", "")):
            element.attrib.pop("id")
            _first(element, "title", hint)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    _first(root, "desc", description, id=f"{name}-desc")
    _first(root, "title", title, id=f"{name}-title")
    root.attrib.update(
        {"role": "img", "aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-desc"}
    )
    return ElementTree.tostring(root, encoding="unicode")


def hint(text: str) -> str:
    """A gid that shows `text` over what it is given to."""
    return f"hint {text}"


def _hint(identity: str) -> str:
    return identity.removeprefix("hint ") if identity.startswith("hint ") else ""


def _first(element: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    child = ElementTree.Element(tag, attributes)
    child.text = text
    element.insert(0, child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key in ("style", "clip-path"):
        value = _STAND_IN.sub(lambda found: _VARIABLES[found[0]], value).replace("url(#", f"url(#{name}-")
        return _FONT.sub(r"\1 var(--sans)", value)
    return value
