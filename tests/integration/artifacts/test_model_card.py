"""The model card: text from the data stays text."""

import ast
import html
import json
import re

import pytest
from markdown_it import MarkdownIt


@pytest.mark.parametrize(
    "label",
    [
        "`<script>x",
        "![x](https://example.org/x.png)",
        "[a](https://example.org) | **b**",
        "\U0001f600",
    ],
)
def test_labels_cannot_add_markup_to_the_card(run_tiny, rows, tmp_path, label):
    for split in ("train", "test"):
        text = (rows / f"{split}.jsonl").read_text().replace('"negative"', json.dumps(label))
        (tmp_path / f"{split}.jsonl").write_text(text)
    folder = run_tiny(data={"source": str(tmp_path), "labels": [label, "positive"]})
    card = (folder / "adapter" / "README.md").read_text()
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(card)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<a " not in shown
    assert f"<code>{html.escape(label, quote=False)}</code>" in shown
    found = re.search(r"^labels = (.*)$", card, re.MULTILINE)[1]
    assert ast.literal_eval(found) == [label, "positive"]
