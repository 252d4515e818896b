"""The ways of training that the speed benchmarks compare, on the same rows and batch size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed.step_clock import StepClock

if TYPE_CHECKING:  # imported later: torch reads the environment at import
    from transformers import TrainingArguments

    from lora_tune.run_context import RunContext

BATCH = 4  # rows
TEST_ROWS = 400
LORA = {"rank": 4, "alpha": 32, "dropout": 0.01}  # of every contestant that trains LoRA
TARGET_MODULE = "query"
LEARNING_RATE = 1e-3

TUNED: dict[str, Any] = {"bf16": True, "train_sampling_strategy": "group_by_length"}
# As `model.dropout: 0` sets it: everywhere but before the head.
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.1,
}
# By key in the recorded results: what the tables call it.
TITLES = {
    "tutorial": "PEFT, Trainer",
    "tuned Trainer": "PEFT, tuned Trainer",
    "tuned, no dropout": "PEFT, tuned Trainer, no dropout",
    "ours, base's dropout": "lora_tune, base model's dropout",
    "ours": "lora_tune",
    "ours, two epochs": "lora_tune, two epochs",
    "full, tuned as ours": "lora_tune, full fine-tuning",
    "ceiling": "frozen model (upper bound)",
}
# Overrides of the recipe, for what trains with lora_tune.
OVERRIDES: dict[str, list[str]] = {
    "ours": [],
    "ours, base's dropout": ["model.dropout=null"],
    "ours, two epochs": ["training.num_train_epochs=2"],
    "full, tuned as ours": ["training.learning_rate=5e-5"],
    "ceiling": [],
}


def prepare(
    name: str,
    data: str,
    *,
    rows: int,
    max_length: int,
    seed: int,
    evaluates: bool,
    folder: str,
    overrides: Sequence[str] = (),
) -> "tuple[RunContext, TrainingArguments]":
    """Load the rows, the same for all contestants, and make Trainer's arguments.

    Args:
        name: of the contestant.
        data: a folder with IMDb's train.parquet and test.parquet.
        rows: of train, those for validation included.
        max_length: tokens.
        evaluates: whether validation and test rows are evaluated.
        folder: for checkpoints.
        overrides: of the recipe, in addition to those of all contestants and of this one.
    """
    from benchmarks.lora_training import load_context
    from lora_tune.training.arguments import make_arguments

    shared = [
        f"data.source={data}",
        f"data.train.samples={rows}",
        f"data.test.samples={TEST_ROWS if evaluates else 50}",
        f"data.validation.fraction={0.2 if evaluates else 0.05}",
        f"data.max_length={max_length}",
        *(f"lora.{key}={value}" for key, value in LORA.items()),
        f"lora.target_modules=[{TARGET_MODULE}]",
        "training.eval_strategy='no'",
        "training.save_strategy='no'",
        "training.load_best_model_at_end=false",
        f"training.learning_rate={LEARNING_RATE}",
        "training.num_train_epochs=1",
        "training.warmup_steps=0",
        "training.adam_beta2=0.999",
        f"training.per_device_train_batch_size={BATCH}",
        f"training.seed={seed}",
        "training.precision=bfloat16",
    ]
    context = load_context(
        "minilm_imdb_lora",
        [*shared, *OVERRIDES.get(name, []), *overrides],
        checkpoints=Path(folder),
    )
    recipe = context.recipe
    return context, make_arguments(recipe.training, task=context.task, checkpoints=Path(folder))


def train_with_trainer(
    context: "RunContext",
    clock: StepClock,
    *,
    model_config: dict[str, Any] | None = None,
    **switches: Any,
) -> Any:
    """Train as tutorials do: PEFT around the model in transformers.Trainer, the model's own loss.

    Args:
        model_config: changes to the base model's configuration.
        switches: of TrainingArguments.

    Returns:
        The model, the losses of its steps, and whether its weights changed.
    """
    import transformers
    from peft import LoraConfig, get_peft_model

    seed = context.recipe.training["seed"]
    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        context.checkpoint.folder, num_labels=2, **(model_config or {})
    )
    model.register_forward_pre_hook(clock.count_tokens, with_kwargs=True)
    lora = LoraConfig(
        task_type="SEQ_CLS",
        r=LORA["rank"],
        lora_alpha=LORA["alpha"],
        lora_dropout=LORA["dropout"],
        target_modules=[TARGET_MODULE],
    )
    model = get_peft_model(model, lora)
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(context.checkpoints),
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            weight_decay=0.01,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1,
            use_cpu=True,
            seed=seed,
            **switches,
        ),
        train_dataset=context.data.train.encoded.remove_columns(["length"]),
        processing_class=context.tokenizer,
        data_collator=transformers.DataCollatorWithPadding(context.tokenizer),
    )
    before = _trained_weights(model)
    clock.start(_validation(model, context))
    trainer.train()
    # Trainer wraps forward in autocast; lora_tune evaluates without it.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return model, losses, _differ(before, _trained_weights(model))


def train_with_lora_tune(context: "RunContext", clock: StepClock, *, full: bool = False) -> Any:
    """Train as lora_tune does.

    Args:
        full: all weights instead of LoRA.

    Returns:
        The model, the losses of its steps, and whether its weights changed.
    """
    from benchmarks.lora_training import attach_lora
    from lora_tune.evaluation.results import FULL
    from lora_tune.evaluation.results import LORA as LORA_SYSTEM
    from lora_tune.models.layers import unfreeze_layers
    from lora_tune.training.training import train_model

    seed = context.recipe.training["seed"]
    loaded = context.load_base_model(seed)
    loaded.model.register_forward_pre_hook(clock.count_tokens, with_kwargs=True)
    model: Any = loaded.model
    if full:
        unfreeze_layers(model, None)
    else:
        model = attach_lora(context, loaded)
    before = _trained_weights(model)
    clock.start(_validation(model, context))
    history, _ = train_model(context, FULL if full else LORA_SYSTEM, model, {"seed": seed})
    losses = [step["train_loss"] for step in history.steps]
    return model, losses, _differ(before, _trained_weights(model))


def run_frozen_model(
    context: "RunContext", arguments: "TrainingArguments", clock: StepClock
) -> Any:
    """Run the frozen model forward, and backward to its embeddings: an upper bound of the speed.

    The batches are those of lora_tune; there are no adapters and no optimizer.

    Returns:
        The model, its losses, and True.
    """
    import torch

    from lora_tune.data.batching import WIDTH_MULTIPLE, split_batch
    from lora_tune.fast.bfloat16_weights import cast_weights, patched_with_casts
    from lora_tune.fast.cpu_attention import product_attention
    from lora_tune.fast.first_token import find_top_layer, first_token
    from lora_tune.training.data_loader import make_loader

    model: Any = context.load_base_model(arguments.seed).model
    model.requires_grad_(False)
    model.register_forward_pre_hook(clock.count_tokens, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_(True))
    model.train()
    collator: Any = context.collate(model)
    collate = replace(collator, pad_to_multiple_of=WIDTH_MULTIPLE)
    casts = cast_weights(model, torch.bfloat16)
    top = find_top_layer(
        model, context.data, arguments=arguments, task=context.task, collate=collate
    )
    losses = []
    for batch in make_loader(
        context.data.train.encoded, arguments, batch_size=BATCH, collate=collate
    ):
        (batch,) = split_batch(
            batch,
            math.inf,
            context.task.collator,
            max_width=context.tokenizer.model_max_length,
        )
        labels = batch.pop("labels")
        with (
            torch.autocast("cpu", torch.bfloat16),
            product_attention(),
            patched_with_casts(casts),
            first_token(top),
        ):
            logits = model(**batch).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        losses.append(loss.item())
        clock.end_step()
    return model, losses, True


def find_correct(model: Any, context: "RunContext", split: Any) -> Any:
    """Return for each row of a split whether the model's prediction is correct."""
    from lora_tune.evaluation.model_evaluation import evaluate_model

    evaluation = evaluate_model(
        model, split, task=context.task, collate=context.collate(model), title=""
    )
    return evaluation.predictions == split.rows.labels


def _validation(model: Any, context: "RunContext") -> Callable[[], float]:
    return lambda: float(find_correct(model, context, context.data.validation).mean())


def _trained_weights(model: Any) -> list[Any]:
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


def _differ(before: list[Any], after: list[Any]) -> bool:
    return any(not a.equal(b) for a, b in zip(before, after, strict=True))


# Each takes the context, Trainer's arguments and the clock.
CONTESTANTS: dict[str, Callable[["RunContext", "TrainingArguments", StepClock], Any]] = {
    "tutorial": lambda context, _, clock: train_with_trainer(context, clock),
    "tuned Trainer": lambda context, _, clock: train_with_trainer(context, clock, **TUNED),
    "tuned, no dropout": lambda context, _, clock: train_with_trainer(
        context, clock, model_config=NO_DROPOUT, **TUNED
    ),
    "ours, base's dropout": lambda context, _, clock: train_with_lora_tune(context, clock),
    "ours": lambda context, _, clock: train_with_lora_tune(context, clock),
    "ours, two epochs": lambda context, _, clock: train_with_lora_tune(context, clock),
    "full, tuned as ours": lambda context, _, clock: train_with_lora_tune(
        context, clock, full=True
    ),
    "ceiling": run_frozen_model,
}
