"""A plot of a report, as an SVG file with the page's colors, light and dark."""

import re
from pathlib import Path

import lora_tune

PAGE = Path(lora_tune.__file__).parent / "report" / "templates" / "page.html.jinja"


def standalone_svg(svg: str) -> str:
    """Add the style and the namespace that an SVG element takes from its HTML page.

    Args:
        svg: drawn by `lora_tune.report.svg.draw_svg`.
    """
    colors = re.findall(r"^ *:root \{(.*?)\}", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    light, dark = colors[:2]
    style = (
        f":root {{{light} color: var(--ink); background: var(--paper); }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }} "
        "text { font-family: sans-serif }"
    )
    opening = '<svg xmlns="http://www.w3.org/2000/svg" '
    svg = svg.replace("<svg ", opening, 1)
    return svg.replace("<defs>", f"<style>{style}</style><defs>", 1) + "\n"
