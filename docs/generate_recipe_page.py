"""Writes docs/recipe.md: the keys of a recipe, from the docstrings below their fields.

Run by `make docs`, or as `.venv/bin/python docs/generate_recipe_page.py`.
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from lora_tune.config.data import FormatConfig, SplitConfig
from lora_tune.config.recipe import Sections
from lora_tune.config.renamed_keys import RENAMED_KEYS
from lora_tune.config.schema import describe_type
from lora_tune.config.training import REFUSED_FIELDS, TrainingDefaults

PAGE = Path(__file__).with_name("recipe.md")
ARGUMENTS = "https://huggingface.co/docs/transformers/main_classes/trainer"

INTRODUCTION = """\
# Recipes
A recipe is a YAML file that names the base model, the data, the adapter and the training. It holds
only what differs from the defaults; `model.name` and `data.source` are required. A complete one:

```yaml
# my_recipe.yaml
task: sequence_classification
model:
  name: distilbert-base-uncased             # a folder, or a model ID on the Hub
data:
  source: stanfordnlp/imdb                  # a file, a folder, or a dataset ID on the Hub
  text: text                                # the column names
  label: label
  labels: [negative, positive]              # in the order of their IDs
  train: {split: train, samples: 1000}      # or {file: rows.csv}
  validation: {fraction: 0.1}               # set aside from train, stratified by class
  test: {split: test, samples: 1000}
  max_length: 512                           # tokens
  truncation_side: left
lora:
  rank: 8
  alpha: 16
  dropout: 0.05
  target_modules: all-linear                # or a list, such as [q_lin, v_lin]
training:                                   # any field of transformers.TrainingArguments
  learning_rate: 5e-4
  num_train_epochs: 4
  per_device_train_batch_size: 16
  early_stopping_patience: 2
baselines: {last_layers: 2}                 # the baselines that train weights of the base model
seeds: [1, 2, 3]                            # one training each
examples:
  - It was good.
  - Not a fan, don't recommend.
```

`lora-tune train my_recipe.yaml` runs it; the recipes in [recipes/](../recipes) run by name. A
relative path in a recipe is relative to the working directory.

## Overrides
After the recipe, `key=value` replaces a value: the key is dotted, the value is YAML. A list is
replaced, a mapping is merged, and `null` removes a value. Quote what the shell would interpret.

```sh
lora-tune train quickstart lora.rank=16 training.num_train_epochs=1 \\
  'data.train={split: train, samples: 100}' model.revision=null
```

A value can be an [interpolation](https://omegaconf.readthedocs.io/en/latest/usage.html#variable-interpolation):
`${lora.rank}` is the value of another key, `${oc.env:NAME}` that of an environment variable. The
recorded recipe keeps interpolations as they are written, and values from the environment are removed
from all output.

Wrong keys, types and values are reported before anything is loaded, one line each. The exit code
is 2.

```
$ lora-tune train quickstart lora.rnak=4 lora.alpha=high training.learning_rat=1
command line: lora.alpha: found 'high' (text), expected a number
command line: lora.rnak is not a recipe key; did you mean lora.rank?
command line: training.learning_rat is not a field of transformers.TrainingArguments; did you mean training.learning_rate?
```
"""  # noqa: E501

TRAINING = f"""\
The section takes every field of [transformers.TrainingArguments]({ARGUMENTS})
by its own name, and four keys more, which are marked below. The keys below have a default of
lora_tune; all other fields keep the default of TrainingArguments."""

RENAMED = """\
## Renamed keys
A recipe with an old key is refused, and the message names the new key. The recipes inside adapters
and runs of earlier versions still load.

| old key | new key |
|---|---|"""


def page() -> str:
    """Write the page as Markdown."""
    lines = [INTRODUCTION, "## Keys", *_table(Sections)]
    for name, section in get_type_hints(Sections).items():
        if name == "training":
            lines += [f"## {name}", TRAINING, *_table(TrainingDefaults, "training.")]
            lines += ["These fields cannot be set:", "", "| key | why, or what to do instead |"]
            lines += ["|---|---|", *(f"| `{name}.{k}` | {v} |" for k, v in REFUSED_FIELDS.items())]
            lines += [""]
        elif is_dataclass(section):
            lines += [f"## {name}", _docstring(section), *_table(section, f"{name}.")]
        if name == "data":
            lines += ["### format", _docstring(FormatConfig)]
            lines += [*_table(FormatConfig, "data.format.")]
            lines += ["### The splits", _docstring(SplitConfig)]
            lines += [
                "",
                "Each of `data.train`, `data.validation` and `data.test` has these keys.",
                *_table(SplitConfig, "data.train."),
            ]
    lines += [RENAMED]
    lines += [f"| `{old}` | `{new}` |" for old, new in RENAMED_KEYS.items()]
    return "\n".join(lines).rstrip() + "\n"


def explain_fields(section: Any) -> dict[str, str]:
    """Read the docstring below each field of a dataclass; a field without one is left out."""
    (definition,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for statement, below in pairwise(definition.body):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = " ".join(text.split())
    return texts


def _table(section: Any, prefix: str = "") -> Iterator[str]:
    """Write the rows of a table of keys, types, defaults and meanings."""
    hints, meanings, defaults = get_type_hints(section), explain_fields(section), section()
    yield from ("", "| key | type | default | meaning |", "|---|---|---|---|")
    for name, hint in hints.items():
        is_section = is_dataclass(hint) or (section is Sections and name == "training")
        anchor = "the-splits" if hint is SplitConfig else name
        kind = f"[a section](#{anchor})" if is_section else describe_type(hint)
        default = "" if is_section else f"`{_as_yaml(getattr(defaults, name))}`"
        if default == "`???`":
            default = "required"
        yield f"| `{prefix}{name}` | {kind} | {default} | {meanings[name]} |"
    yield ""


def _docstring(section: Any) -> str:
    return inspect.getdoc(section) or ""


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
