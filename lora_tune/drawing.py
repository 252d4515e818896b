"""A picture as SVG to stand inside a page: it takes the page's colours and needs no network."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_NAME = 22  # characters, in a picture
WIDTH, HEIGHT = 4.4, 3.0  # inches; small, so that text is readable on a phone
# Stand-ins that matplotlib draws with, and what the page puts in their place.
INK, LINE, LORA, OTHER, THIRD = "#010101", "#020202", "#030303", "#040404", "#050505"
COLOURS = {
    INK: "currentColor",
    LINE: "var(--line)",
    LORA: "var(--accent)",
    OTHER: "var(--second)",
    THIRD: "var(--third)",
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def shorten(name: str) -> str:
    """Cut a name to what a picture has room for."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\u2026"


def draw_picture(draw: Callable[["Axes"], None], told: str, *, height: float = HEIGHT) -> str:
    """Draw on axes of a new figure, and return it as SVG.

    Args:
        told: what it shows, for those who do not see it.
        height: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": told}):  # ids of its own in one page
        figure: Figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', svg, count=1)
    # Links inside a picture need no namespace in HTML.
    svg = svg.replace("xlink:href", "href")
    return svg.replace("<svg ", f'<svg role="img" aria-label={quoteattr(told)} ', 1)
