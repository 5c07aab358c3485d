"""Drawings as text that a web page holds."""

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A picture with what belongs to it.

    Attributes:
        note: a sentence or two under it.
        svg: an `<svg>` element.
    """

    title: str
    note: str
    svg: str


def new_figure(width: float = 4.6, height: float = 4.2) -> "tuple[Figure, Any]":
    """A figure of so many inches, and its axes."""
    # Not pyplot: that would choose a window system and keep the figure for ever.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def legend_name(name: str) -> str:
    """A name as matplotlib shows it: no formula, and not left out for how it begins."""
    shown = name.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def as_svg(figure: "Figure", name: str) -> str:
    """The figure as an element; the same figure gives the same text.

    Args:
        name: tells its parts from those of other figures on a page.
    """
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Names of one's own, as glyphs and clip paths of several figures stand in one document.
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
