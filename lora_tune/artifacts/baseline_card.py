"""The card of a saved baseline: what it is, its scores, how to load it."""

from lora_tune.artifacts.card_text import (
    REPOSITORY,
    TASK_TEXTS,
    code,
    plain,
    results_table,
    table,
    write_metadata,
)
from lora_tune.evaluation.comparison import Comparison
from lora_tune.evaluation.fitted_baselines import TfidfFeatures
from lora_tune.evaluation.results import TITLES, Result
from lora_tune.run_context import RunContext

LOADING = """```python
from lora_tune import load_adapter

model = load_adapter("{repository}")
model.predict(["..."])
```"""
TEXTS_INSIDE = (
    "`baseline.json` holds the words and pairs of words that it reads, which come from the "
    "training texts."
)


def write_baseline_card(context: RunContext, comparison: Comparison, result: Result) -> str:
    """Write a baseline's card in Markdown, with the metadata that the Hub reads.

    Args:
        context: of the run.
        comparison: of LoRA with the baselines.
        result: of the baseline, which has been fitted.
    """
    assert result.fitted is not None
    recipe, task, features = context.recipe, context.task, result.fitted.features
    text, labels = TASK_TEXTS[task.output_kind], context.data.labels
    is_tfidf = isinstance(features, TfidfFeatures)
    base = code(context.checkpoint.name)
    model = "ridge" if task.output_kind == "value" else "logistic"
    inputs = (
        "TF-IDF features of words and pairs of words; it needs no language model"
        if isinstance(features, TfidfFeatures)
        else f"the pooled features of {base}, whose weights are not changed"
    )
    settings: list[list[object]] = [
        ["terms", f"{len(features.terms):,}"]
        if isinstance(features, TfidfFeatures)
        else ["pooling", features.pooling],
        ["C, the inverse of the regularization", f"{result.fitted.strength:g}"],
        ["trained parameters", f"{result.trained_parameters:,}"],
    ]
    purpose = text.purpose.format(labels=", ".join(map(code, labels)))
    tags = ["lora_tune", result.name.replace("_", "-")]
    options = '--text "..."' if len(task.columns(recipe.data, labeled=False)) == 1 else "--row ..."
    return "\n".join(
        [
            "---",
            write_metadata(
                context,
                result.evaluation.metrics,
                name=f"{recipe.name}, {TITLES[result.name]}",
                tags=tags,
                library=None,
                needs_base=not is_tfidf,
            ),
            "---",
            f"# {plain(recipe.name)}: {TITLES[result.name]}",
            "",
            f"A {model} regression on {inputs}. It was trained on "
            f"{code(recipe.source_as_written)} {purpose}. Made with lora_tune.",
            "",
            "## Results",
            "",
            results_table(comparison),
            "",
            f"On the same {comparison.test_rows} test rows. {comparison.headline}",
            "",
            *map(plain, comparison.warnings),
            "",
            "## Loading",
            "",
            LOADING.format(repository=REPOSITORY),
            "",
            f"Or `lora-tune predict {REPOSITORY} {options}`. Every file is checked against "
            "`manifest.json` first; weights are safetensors.",
            "",
            "## Settings",
            "",
            table(settings, ["setting", "value"]),
            "",
            "## Intended use and limits",
            "",
            f"For texts like those it was trained on. {text.limits} The results above hold for the "
            "test rows; on other texts they may be worse. "
            + (
                TEXTS_INSIDE
                if is_tfidf
                else "The base model's biases remain, and its license applies."
            ),
            "",
        ]
    )
