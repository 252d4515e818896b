"""Copy results into the README, between their marks: `make readme`.

A mark is `<!-- results: NAME -->`, followed by a fenced block or a table, then `<!-- end -->`. A
.txt result is fenced; of a .md result the first table is taken.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str) -> str:
    """Put each result between its marks."""
    return MARK.sub(lambda found: found[1] + _block(found[2]) + found[3], text)


def _block(name: str) -> str:
    content = (HERE / "results" / name).read_text()
    if name.endswith(".md"):
        table = re.search(r"(^\|.*\n)+", content, re.MULTILINE)
        assert table, name
        return f"\n{table[0]}\n"
    return f"```\n{content}```\n"


if __name__ == "__main__":
    README.write_text(fill(README.read_text()))
