"""The model card of an adapter: what it is, what it scored, how to load it."""

import html
import json
from collections.abc import Sequence

import yaml
from tabulate import tabulate

from lora_tune.adapter import LABELS_FILE
from lora_tune.base import Base
from lora_tune.comparison import CONFIDENCE, Comparison
from lora_tune.recipe import Recipe

LOADING = """```python
import json
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

adapter = "PATH-OR-REPO"  # a clone of this directory
tokenizer = AutoTokenizer.from_pretrained(adapter)
labels = json.load(open(f"{adapter}/%s"))
model = AutoPeftModelForSequenceClassification.from_pretrained(
    adapter, id2label=dict(enumerate(labels)), pad_token_id=tokenizer.pad_token_id
)
```"""


def write_card(recipe: Recipe, *, base: Base, labels: Sequence[str], comparison: Comparison) -> str:
    """Write a model card in Markdown, with the metadata that the Hub reads."""
    metadata = {
        "base_model": base.name,
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["lora"],
    }
    low, high = comparison.difference_interval
    metrics = [
        [name, f"{comparison.base[name]:.4f}", f"{comparison.adapted[name]:.4f}"]
        for name in comparison.base
    ]
    lora = recipe.lora
    fresh = "; the base has a fresh head" if comparison.fresh_head else ""
    return "\n".join(
        [
            "---",
            yaml.safe_dump(metadata, sort_keys=True).strip(),
            "---",
            f"# {html.escape(recipe.name)}",
            "",
            f"A LoRA adapter for {_code(base.name)}, trained on {_code(recipe.source_as_written)} "
            f"to tell {', '.join(map(_code, labels))} apart.",
            "",
            "## Base against adapted",
            "",
            tabulate(
                metrics, ["metric", "base", "adapted"], tablefmt="github", disable_numparse=True
            ),
            "",
            f"On the same {comparison.test_rows} test rows, which neither was trained or selected "
            f"on{fresh}. Difference in {comparison.metric}: "
            f"{comparison.difference:+.4f}, {CONFIDENCE:.0%} interval {low:+.4f} to {high:+.4f}.",
            "",
            *comparison.caveats,
            "",
            "## Adapter",
            "",
            f"Rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}, "
            f"target modules {_code(json.dumps(lora.target_modules))}: "
            f"{comparison.trainable_parameters:,} trainable of "
            f"{comparison.total_parameters:,} parameters, head included.",
            "",
            "## Loading",
            "",
            LOADING % LABELS_FILE,
            "",
            f"This takes {_code(base.name)} from the Hub, or from its cache.",
            "",
        ]
    )


def _code(text: str) -> str:
    """Text from data or recipes as Markdown code, which it cannot leave."""
    return f"<code>{html.escape(' '.join(text.split())).replace('`', '&#96;')}</code>"
