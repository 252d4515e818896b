"""README and docs show the results of the benchmarks as they are, and no block is empty."""

import pytest

from benchmarks.readme import MARK, PAGES, fill
from tests.conftest import ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_results_are_current(page):
    text = page.read_text()
    assert fill(text) == text, "run `make readme`"
    assert "-->\n```\n```" not in text
    assert len(MARK.findall(text)) == text.count("<!-- results:"), "a mark without its end"


def test_the_readme_shows_the_quickstart():
    assert "<!-- results: quickstart.txt" in (ROOT / "README.md").read_text()


def test_an_outdated_result_is_found():
    text = "<!-- results: quickstart.txt -->\n```\nold\n```\n<!-- end -->\n"
    assert fill(text) != text
