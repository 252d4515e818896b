"""Results shown in README.md and docs/, copied from benchmarks/results: `make readme`.

A result goes between `<!-- results: NAME -->` and `<!-- end -->`: of a .md file its first table, or
a .txt file as a fenced block. `from "START" to "END"` after the name takes the lines of a .txt file
from the first that begins with START to the next that begins with END.
"""

import re

from benchmarks.kept_output import RESULTS, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(
    r'(<!-- results: (\S+)(?: from "([^"]*)" to "([^"]*)")? -->\n).*?(<!-- end -->)', re.DOTALL
)


def fill(text: str) -> str:
    """Replace what is between each pair of marks with the result."""
    return MARK.sub(lambda found: found[1] + _block(*found.group(2, 3, 4)) + found[5], text)


def _block(name: str, start: str | None, end: str | None) -> str:
    content = (RESULTS / name).read_text()
    if name.endswith(".md"):
        table = re.search(r"(^\|.*\n)+", content, re.MULTILINE)
        assert table, name
        return f"\n{table[0]}\n"
    if start is not None and end is not None:
        lines = content.splitlines(keepends=True)
        first = next(i for i, line in enumerate(lines) if line.startswith(start))
        last = next(i for i, line in enumerate(lines) if i >= first and line.startswith(end))
        content = "".join(lines[first : last + 1])
    return f"```\n{content}```\n"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill(page.read_text()))
