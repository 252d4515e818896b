"""Which fields transformers.TrainingArguments has, read from its source.

Importing transformers takes seconds; a misspelt key must be answered at once. The names and the
annotations stand in the class body of the installed version, so reading them cannot go stale.
"""

import ast
import importlib.util
from functools import cache
from pathlib import Path

# Keys of a recipe's `training:` section that belong to transformers.EarlyStoppingCallback.
EARLY_STOPPING_FIELDS = {
    "early_stopping_patience": "int | None",
    "early_stopping_threshold": "float",
}

# All keys of `training:` that TrainingArguments does not have.
OWN_FIELDS = EARLY_STOPPING_FIELDS | {"fast": "bool", "token_budget": "int"}

# Names that transformers 5.23 warns of, where it knows the new ones.
RENAMED_FIELDS = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}

# Fields that would break a promise of lora_tune, and what to do instead.
REFUSED_FIELDS = {
    "output_dir": "name the run directory with --output DIR",
    "push_to_hub": "nothing leaves the machine while training",
    "hub_token": "a token does not belong in a recipe",
    "hub_model_id": "nothing leaves the machine while training",
    "hub_strategy": "nothing leaves the machine while training",
    "hub_private_repo": "nothing leaves the machine while training",
    "hub_always_push": "nothing leaves the machine while training",
    "hub_revision": "nothing leaves the machine while training",
    "length_column_name": "rows of like length come together by themselves",
    "remove_unused_columns": "the model is given what it takes",
    "resume_from_checkpoint": "every run starts from the base model",
    "bf16_full_eval": "a base is evaluated as it is loaded; see model.dtype",
    "fp16_full_eval": "a base is evaluated as it is loaded; see model.dtype",
    "dataloader_drop_last": "every training row is seen once in an epoch",
    "do_train": "`train` always trains",
    "do_eval": "evaluation is governed by eval_strategy",
    "do_predict": "the test rows are always evaluated, once, at the end",
}


@cache
def training_fields() -> dict[str, str]:
    """Name every field that `training:` takes.

    Returns:
        Field name -> its annotation as source text, such as `"float"` or `"str | None"`.
    """
    spec = importlib.util.find_spec("transformers")  # finds the package without importing it
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "training_args.py").read_text(encoding="utf-8")
    (body,) = (
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
    )
    fields = {
        statement.target.id: ast.unparse(statement.annotation)
        for statement in body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return fields | OWN_FIELDS
