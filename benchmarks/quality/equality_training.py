"""The ways of training that equality.py compares, from the same initial weights."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.quality.equality_page import EXACT

if TYPE_CHECKING:
    from lora_tune.run_context import RunContext

KEPT_LOGITS = 100  # test rows whose logits are recorded, where they are compared
RANK, ALPHA, TARGET_MODULES = 8, 16, ["query", "value"]
# Trainer's, of every side; what is not named has its default in TrainingArguments.
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 16,
    "num_train_epochs": 3,
    "bf16": True,
    "logging_steps": 1,
    "save_strategy": "no",
}


@dataclass(frozen=True)
class Side:
    """One way of training."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)  # to SETTINGS
    is_plain: bool = False  # Trainer with PEFT alone, instead of lora_tune
    has_own_batches: bool = False  # Trainer with lora_tune's batches
    sets_rows_aside: bool = False  # a tenth of the training rows is for validation
    has_dropout: bool = True


def train(side: Side, context: "RunContext", seed: int) -> dict[str, Any]:
    """Train, and evaluate the last weights on the test rows in float32.

    Returns:
        What is recorded: accuracy, test loss, the training loss of each step.
    """
    from torch import nn

    from benchmarks.lora_training import attach_lora
    from lora_tune.evaluation.model_evaluation import evaluate_model
    from lora_tune.evaluation.results import LORA
    from lora_tune.training.training import train_model

    model: Any = attach_lora(context, context.load_base_model(seed))
    if side.is_plain:
        model = _plain_model(context, initial=model)
    for module in model.modules():
        if isinstance(module, nn.Dropout) and not side.has_dropout:
            module.p = 0.0
    best_step = None
    if side.is_plain:
        losses = _train_plain(model, side, context, seed)
    else:
        history, _ = train_model(context, LORA, model, side.changes | {"seed": seed})
        losses = [step["train_loss"] for step in history.steps]
        best_step = history.best_step
    evaluation = evaluate_model(
        model, context.data.test, task=context.task, collate=context.collate(model), title=""
    )
    result = {
        "train_rows": len(context.data.train.encoded),
        "test_rows": len(evaluation.predictions),
        "steps": len(losses),
        "best_step": best_step,
        "accuracy": evaluation.metrics["accuracy"],
        "test_loss": evaluation.metrics["loss"],
        "losses": [round(loss, 4) for loss in losses],
    }
    if side.name.startswith(EXACT):
        result["logits"] = evaluation.logits[:KEPT_LOGITS].tolist()
    return result


def _plain_model(context: "RunContext", *, initial: Any) -> Any:
    """Attach LoRA as tutorials do, with the initial weights of lora_tune's adapter and head."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
        context.checkpoint.folder, num_labels=len(context.data.labels)
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=ALPHA, target_modules=TARGET_MODULES)
    model = get_peft_model(model, lora)
    own, given = (
        {name: weight for name, weight in each.named_parameters() if weight.requires_grad}
        for each in (model, initial)
    )
    assert own.keys() == given.keys()
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(given[name])
    return model


def _train_plain(model: Any, side: Side, context: "RunContext", seed: int) -> list[float]:
    """Train with transformers.Trainer and the model's own loss; returns that of each step."""
    import transformers

    from lora_tune.training.data_loader import make_loader

    class SameBatches(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            return make_loader(
                context.data.train.encoded,
                self.args,
                batch_size=self._train_batch_size,
                collate=self.data_collator,
            )

    trainer = (SameBatches if side.has_own_batches else transformers.Trainer)(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(context.checkpoints / "plain"),
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
            **(SETTINGS | side.changes),
        ),
        train_dataset=context.data.train.encoded.remove_columns(["length"]),
        data_collator=transformers.DataCollatorWithPadding(context.tokenizer),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    # Trainer wraps forward in autocast; test rows are evaluated without.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
