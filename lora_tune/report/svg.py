"""A plot drawn as SVG for embedding in a page: it uses the page's colors and loads nothing."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAME_LENGTH = 22  # characters of a name in a plot
WIDTH, HEIGHT = 4.4, 3.0  # inches; small, so that text is readable on a phone
# Placeholder colors for matplotlib, which are replaced with CSS variables of the page.
INK, LINE, LORA, OTHER, THIRD = "#010101", "#020202", "#030303", "#040404", "#050505"
CSS_COLORS = {
    INK: "currentColor",
    LINE: "var(--line)",
    LORA: "var(--accent)",
    OTHER: "var(--second)",
    THIRD: "var(--third)",
}
DASHES = ("-", "--", ":", "-.")
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
    """Truncate a name to the length that fits into a plot."""
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "\u2026"


def draw_svg(draw: Callable[["Axes"], None], description: str, *, height: float = HEIGHT) -> str:
    """Draw on the axes of a new figure, and return it as an SVG element.

    Args:
        draw: draws on the axes.
        description: what the plot shows, for screen readers.
        height: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # The salt makes the IDs of elements unique within a page, and the same in every run.
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": description}):
        figure: Figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for placeholder, color in CSS_COLORS.items():
        svg = svg.replace(placeholder, color)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', svg, count=1)
    # HTML needs no namespace for links inside an SVG element.
    svg = svg.replace("xlink:href", "href")
    return svg.replace("<svg ", f'<svg role="img" aria-label={quoteattr(description)} ', 1)
