"""The recipe's `training:` section: defaults, and the fields of transformers.TrainingArguments.

The section takes every field of TrainingArguments by its own name. The names and types of these
fields are read from the source of the installed transformers with `ast`, for these reasons:

- importing TrainingArguments takes seconds, since it imports torch, and a misspelled key must be
  reported at once; parsing the file takes a few hundredths of a second;
- a list of the fields in this package would go stale: transformers adds and renames fields in
  minor releases.
"""

import ast
import builtins
import importlib.util
import typing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from lora_tune.config.validation import Problems, check_minimum, check_positive


@dataclass(frozen=True)
class TrainingDefaults:
    """The keys with a default of lora_tune; the others keep the default of TrainingArguments."""

    learning_rate: float = 7e-4
    """The peak learning rate. LoRA needs about ten times the learning rate of full fine-tuning."""

    num_train_epochs: float | None = None
    """The number of passes over the training rows. If null, as many as training needs to converge:
    from 3 with many rows up to 30 with few."""

    per_device_train_batch_size: int = 16
    """The number of rows in a training batch."""

    token_budget: int = 8192
    """The maximum number of tokens, padding included, in one forward pass of training. A larger
    batch is split into several passes, with the same gradients. This key is lora_tune's own."""

    weight_decay: float = 0.01
    """The weight decay of AdamW."""

    warmup_steps: float = 0.06
    """The number of warmup steps; below 1, a share of all steps."""

    seed: int = 42
    """The seed for the initialization of head and adapter, for dropout and for the data order."""

    eval_strategy: str = "epoch"
    """When to evaluate on the validation rows: `epoch`, `steps` or `no`."""

    save_strategy: str = "epoch"
    """When to save a checkpoint: `epoch`, `steps`, `best` or `no`."""

    logging_strategy: str = "steps"
    """When to log the training loss: `epoch`, `steps` or `no`."""

    logging_steps: float = 0.02
    """The number of steps between two logs; below 1, a share of all steps."""

    load_best_model_at_end: bool | None = None
    """Whether to publish the adapter of the best evaluation, instead of the last one. If null, true
    where there are at least 50 validation rows; with fewer, the best evaluation is a matter of
    chance."""

    metric_for_best_model: str | None = None
    """The validation metric that selects the best evaluation; of equal ones, the lower loss does.
    If null, the task's own."""

    save_total_limit: int | None = 1
    """The maximum number of checkpoints to keep during training, besides the best one."""

    save_only_model: bool = True
    """Whether a checkpoint holds the weights alone, without the state of the optimizer."""

    logging_nan_inf_filter: bool = False
    """Whether to hide losses that are NaN or infinite in the log."""

    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The precision of matrix products during training: `float32`; `bfloat16` or `float16`, under
    autocast; or `auto`: bfloat16 where the device multiplies it in hardware, else float32. `bf16`
    and `fp16` rule where they are given. This key is lora_tune's own."""

    fast: bool = True
    """Whether to use the speed-ups of `lora_tune/fast`. With false, the layers are those of PEFT
    and torch. This key is lora_tune's own."""

    refit: bool = False
    """Whether to train once more, on the training and validation rows together, for as many steps
    as the kept weights had, and to publish that adapter. This key is lora_tune's own."""

    early_stopping_patience: int | None = None
    """The number of evaluations in which neither the validation metric nor the validation loss
    improves, after which training stops. If null, 5 if the number of epochs and the best evaluation
    are chosen automatically; otherwise training does not stop early."""

    early_stopping_threshold: float = 0.0
    """The improvement of the metric that early stopping counts as one."""

    report_to: str | list[str] | None = "none"
    """The experiment trackers to report to, such as `tensorboard` or `[mlflow, wandb]`."""


TRAINING_DEFAULTS: dict[str, Any] = asdict(TrainingDefaults())

# Keys of `training:` about when training stops early, as in transformers.EarlyStoppingCallback.
EARLY_STOPPING_FIELDS = ("early_stopping_patience", "early_stopping_threshold")

# All keys of `training:` that TrainingArguments does not have.
OWN_FIELDS = (*EARLY_STOPPING_FIELDS, "fast", "precision", "refit", "token_budget")

# TrainingArguments' own keys for the same.
AUTOCAST_FIELDS = {"bf16": "bfloat16", "fp16": "float16"}

# transformers 5.23 renames these and warns about the old names.
RENAMED_FIELDS = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}

NO_UPLOAD = "training uploads nothing; publish the adapter with lora-tune push"

# Fields that a recipe cannot set, and why, or what to do instead.
REFUSED_FIELDS = {
    "output_dir": "name the run directory with --output DIR",
    "push_to_hub": NO_UPLOAD,
    "hub_token": "a token does not belong in a recipe; log in with hf auth login",
    "hub_model_id": NO_UPLOAD,
    "hub_strategy": NO_UPLOAD,
    "hub_private_repo": NO_UPLOAD,
    "hub_always_push": NO_UPLOAD,
    "hub_revision": NO_UPLOAD,
    "length_column_name": "batches are grouped by length automatically",
    "remove_unused_columns": "columns that the model does not use are removed automatically",
    "resume_from_checkpoint": "every run starts from the base model",
    "bf16_full_eval": "evaluation uses the precision the base model is loaded in; see model.dtype",
    "fp16_full_eval": "evaluation uses the precision the base model is loaded in; see model.dtype",
    "dataloader_drop_last": "every epoch uses every training row",
    "do_train": "lora-tune train always trains",
    "do_eval": "set eval_strategy instead",
    "do_predict": "the test rows are always evaluated, once, after training",
}


@cache
def training_fields() -> dict[str, Any]:
    """Read the fields of TrainingArguments, and add the keys that lora_tune has beside them.

    Returns:
        Name of each field -> its type, such as `float` or `str | None`. Enums are `str`, as in a
        recipe.
    """
    spec = importlib.util.find_spec("transformers")  # locates the package without importing it
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "training_args.py").read_text(encoding="utf-8")
    (body,) = (
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
    )
    fields = {
        statement.target.id: _evaluate_annotation(statement.annotation)
        for statement in body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return fields | get_type_hints(TrainingDefaults)


def find_precision(training: dict[str, Any]) -> str:
    """Find what a `training:` section asks for: float32, bfloat16, float16 or auto.

    `bf16` and `fp16` rule where they are given: false means float32.
    """
    given = [key for key in AUTOCAST_FIELDS if key in training]
    asked = [AUTOCAST_FIELDS[key] for key in given if training[key]]
    return asked[0] if asked else "float32" if given else training["precision"]


def validate_training(training: dict[str, Any]) -> Problems:
    """Yield what the types of the fields cannot rule out and TrainingArguments does not check."""
    own = next((key for key in AUTOCAST_FIELDS if key in training), None)
    if own and training["precision"] != "auto":
        found = f"found {own}={str(training[own]).lower()} too; remove one of them"
        yield "precision", f"{training['precision']} says what training.{own} says, {found}"
    for key in ("learning_rate", "num_train_epochs"):
        if training[key] is not None:
            yield from check_positive(key, training[key])
    for key, maximum in (("label_smoothing_factor", 1), ("seed", 2**32 - 1), ("weight_decay", 1)):
        value = training.get(key)
        if value is not None and not 0 <= value <= maximum:
            yield key, f"must be 0 to {maximum}, got {value}"
    for key in (
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "token_budget",
        "early_stopping_patience",
    ):
        yield from check_minimum(key, training.get(key), 1)


def _evaluate_annotation(annotation: ast.expr) -> Any:
    """Evaluate an annotation with builtins and `typing`; every other name is an enum, so `str`."""
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    known = {name: getattr(builtins, name, getattr(typing, name, str)) for name in names}
    try:
        return eval(ast.unparse(annotation), known)
    except (AttributeError, TypeError):  # such as `torch.dtype`: TrainingArguments checks it
        return Any
