"""A picture as a file of its own, in the colours of lora_tune's pages, light and dark."""

import re
from pathlib import Path

import lora_tune

PAGE = Path(lora_tune.__file__).parent / "templates" / "page.html.jinja"


def stand_alone(picture: str) -> str:
    """Give a picture of a page (see lora_tune/drawing.py) what it takes from the page."""
    colours = re.findall(r"^ *:root \{(.*?)\}", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    light, dark = colours[:2]
    style = (
        f":root {{{light} color: var(--ink); background: var(--paper); }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }} "
        "text { font-family: sans-serif }"
    )
    head = '<svg xmlns="http://www.w3.org/2000/svg" '
    return (
        picture.replace("<svg ", head, 1).replace("<defs>", f"<style>{style}</style><defs>", 1)
        + "\n"
    )
