"""The README shows the results as they are, and no block of it is empty."""

import importlib.util

from tests.conftest import ROOT


def test_results_in_the_readme_are_current():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    text = (ROOT / "README.md").read_text()
    assert readme.fill(text) == text
    assert text.count("<!-- results:") == 7
    assert "-->\n```\n```" not in text
