"""One contestant of benchmarks/speed.py and time_to_accuracy.py, in this fresh process.

python benchmarks/speed_contestant.py NAME DATA ROWS MAX_LENGTH SEED CHECKS

Prints what it measured as JSON. With CHECKS, it also answers the validation rows that often while
it trains, off the clock, and the test rows at the end.
"""

import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START = time.time() - time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
TEST_ROWS = 400
WARM_UP = 4  # steps that are not counted
BATCH = 4
# Of the tutorial, for every contestant that has an adapter.
LORA = ["lora.rank=4", "lora.alpha=32", "lora.dropout=0.01", "lora.target_modules=[query]"]
NO_EVALUATION = ["eval_strategy='no'", "save_strategy='no'", "load_best_model_at_end=false"]


@dataclass
class Watch:
    """When each optimizer step ended, and the tokens that went into it."""

    ends: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # of each step, padding left out
    places: list[int] = field(default_factory=list)  # of each step, padding counted
    waiting: list[int] = field(default_factory=lambda: [0, 0])
    has_gradients: bool = False
    is_checking: bool = False
    due: list[int] = field(default_factory=list)  # steps after which to check, in order
    check: Callable[[], float] = float
    checks: list[tuple[float, float]] = field(default_factory=list)  # seconds trained, accuracy
    begun: float = 0.0
    paused: float = 0.0  # seconds that checks took

    def see_inputs(self, _: Any, __: Any, named: dict[str, Any]) -> None:
        """Count a forward's tokens; a forward pre-hook."""
        if self.is_checking:
            return
        mask = named["attention_mask"]
        self.waiting[0] += int(mask.sum())
        self.waiting[1] += mask.numel()

    def see_step(self, optimizer: Any, *_: Any) -> None:
        """Note a step's end; a hook of every optimizer."""
        if not self.ends:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            self.has_gradients = any(p.grad is not None and p.grad.any() for p in trained)
        self.end_step()

    def end_step(self) -> None:
        """Note a step's end."""
        self.ends.append(time.time())
        self.tokens.append(self.waiting[0])
        self.places.append(self.waiting[1])
        self.waiting = [0, 0]
        if len(self.ends) in self.due:
            self.is_checking = True
            trained = time.time() - self.begun - self.paused
            self.checks.append((trained, self.check()))
            self.paused += time.time() - self.ends[-1]
            self.is_checking = False

    def start(self, inputs: Any, model: Any) -> None:
        """Start the clock; the model is what is to be checked on validation rows."""
        self.check = lambda: float(_answer(model, inputs, inputs.data.validation).mean())
        self.begun = time.time()

    def report(self) -> dict[str, Any]:
        """What is kept of it."""
        seconds = [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)][WARM_UP - 1 :]
        tokens = sum(self.tokens[WARM_UP:])
        return {
            "tokens_per_second": tokens / sum(seconds),
            "padding": 1 - tokens / sum(self.places[WARM_UP:]),
            "step_seconds": seconds,
            "cold_seconds": self.ends[0] - START,
            "checks": self.checks,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def main(
    name: str, data: str, rows: int, max_length: int, seed: int, checks: int
) -> dict[str, Any]:
    """Run a contestant; returns what it measured."""
    ours = name in OURS
    if ours:
        from lora_tune.environment import keep_freed_memory

        keep_freed_memory()
    from lora_tune.environment import quiet_libraries

    quiet_libraries()
    from torch.optim.optimizer import register_optimizer_step_post_hook

    watch = Watch()
    register_optimizer_step_post_hook(watch.see_step)
    with tempfile.TemporaryDirectory() as folder:
        inputs, arguments = prepare(name, data, rows, max_length, seed, checks, folder=folder)
        epochs = round(arguments.num_train_epochs)
        steps = -(-len(inputs.data.train.encoded) // BATCH) * epochs
        watch.due = [steps * (number + 1) // checks for number in range(checks)]
        model, losses, changed = CONTESTANTS[name](inputs, arguments, watch)
        correct = _answer_test(model, inputs) if checks else []
    assert watch.has_gradients or name == "ceiling", "no gradients"
    assert changed, "training changed nothing"
    return watch.report() | {"name": name, "losses": losses, "correct": correct}


def _recipe(data: str, rows: int, max_length: int, seed: int, checks: int) -> list[str]:
    """What all contestants share, as changes to a recipe."""
    return [
        f"data.source={data}",
        f"data.train.samples={rows}",
        f"data.test.samples={TEST_ROWS if checks else 50}",
        f"data.validation.fraction={0.2 if checks else 0.05}",
        f"data.max_length={max_length}",
        *LORA,
        *(f"training.{word}" for word in NO_EVALUATION),
        "training.learning_rate=1e-3",
        "training.num_train_epochs=1",
        "training.warmup_steps=0",
        "training.adam_beta2=0.999",
        f"training.per_device_train_batch_size={BATCH}",
        f"training.seed={seed}",
    ]


def prepare(
    name: str,
    data: str,
    rows: int,
    max_length: int,
    seed: int,
    checks: int,
    *,
    folder: str,
    changes: Sequence[str] = (),
) -> Any:
    """Load the rows, the same for all contestants, and make the arguments of training.

    Args:
        changes: to the recipe, beside those of all contestants and of this one.
    """
    from lora_tune.base import find_base
    from lora_tune.data import load_data
    from lora_tune.model import load_tokenizer
    from lora_tune.recipe_file import load_recipe
    from lora_tune.targets import find_targets
    from lora_tune.tasks import find_task
    from lora_tune.training import make_arguments
    from lora_tune.trials import Inputs

    shared = _recipe(data, rows, max_length, seed, checks)
    recipe = load_recipe("minilm_imdb_lora", [*shared, *OURS.get(name, []), *changes])
    task, base = find_task(recipe.task), find_base(recipe.model)
    targets = find_targets(base, recipe.model, recipe.lora, task)
    tokenizer = load_tokenizer(base, recipe.model, recipe.data)
    loaded = load_data(recipe.data, task, tokenizer)
    inputs = Inputs(recipe, task, base, targets, tokenizer, loaded, Path(folder))
    return inputs, make_arguments(recipe.training, task=task, checkpoints=Path(folder))


def train_by_trainer(
    inputs: Any, watch: Watch, config: dict[str, Any] | None = None, **switches: Any
) -> Any:
    """Train as the tutorials do: Trainer, PEFT around the model, the model's own loss.

    Args:
        config: what differs in the base's configuration.
        switches: Trainer's own.
    """
    import transformers
    from peft import LoraConfig, get_peft_model

    seed = inputs.recipe.training["seed"]
    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        inputs.base.folder, num_labels=2, **(config or {})
    )
    model.register_forward_pre_hook(watch.see_inputs, with_kwargs=True)
    lora = LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=32, lora_dropout=0.01, target_modules=["query"]
    )
    model = get_peft_model(model, lora)
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(inputs.checkpoints),
            learning_rate=1e-3,
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
        train_dataset=inputs.data.train.encoded.remove_columns(["length"]),
        processing_class=inputs.tokenizer,
        data_collator=transformers.DataCollatorWithPadding(inputs.tokenizer),
    )
    before = _trained(model)
    watch.start(inputs, model)
    trainer.train()
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # answers in full, as ours
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return model, losses, _changed(before, _trained(model))


def train_ours(inputs: Any, arguments: Any, watch: Watch, *, adapter: bool = True) -> Any:
    """Train as lora_tune does."""
    from lora_tune.batching import make_collator
    from lora_tune.model import thaw_layers
    from lora_tune.training import train_adapter
    from lora_tune.trials import adapt_model, load_base_model

    seed = inputs.recipe.training["seed"]
    model, head, _ = load_base_model(inputs, seed)
    model.register_forward_pre_hook(watch.see_inputs, with_kwargs=True)
    adapted: Any = model
    if adapter:
        adapted, _ = adapt_model(inputs, model, head, seed)
    else:
        thaw_layers(model, None)
    before = _trained(adapted)
    watch.start(inputs, adapted)
    history = train_adapter(
        adapted,
        inputs.data,
        arguments,
        training=inputs.recipe.training,
        task=inputs.task,
        collate=make_collator(inputs.tokenizer, inputs.task, model),
        show=lambda _: None,
    )
    losses = [step["train_loss"] for step in history.steps]
    return adapted, losses, _changed(before, _trained(adapted))


def pass_through(inputs: Any, arguments: Any, watch: Watch) -> Any:
    """Run the frozen model without adapters, forward and back to its embeddings: the ceiling."""
    from dataclasses import replace

    import torch

    from lora_tune.batching import MULTIPLE, make_collator, split_batch
    from lora_tune.fast.cast_weights import cast_weights, casts_standing_in
    from lora_tune.fast.cpu_attention import product_attention
    from lora_tune.fast.first_token import find_top_layer, first_token
    from lora_tune.loading import make_loader
    from lora_tune.trials import load_base_model

    model, _, _ = load_base_model(inputs, arguments.seed)
    model.requires_grad_(False)
    model.register_forward_pre_hook(watch.see_inputs, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_(True))
    model.train()
    collator: Any = make_collator(inputs.tokenizer, inputs.task, model)
    collate = replace(collator, pad_to_multiple_of=MULTIPLE)
    casts = cast_weights(model, torch.bfloat16)
    top = find_top_layer(model, inputs.data, arguments, collate=collate)
    losses = []
    for batch in make_loader(
        inputs.data.train.encoded, arguments, batch_size=BATCH, collate=collate
    ):
        width = inputs.tokenizer.model_max_length
        (batch,) = split_batch(batch, math.inf, inputs.task, most_width=width)
        labels = batch.pop("labels")
        with (
            torch.autocast("cpu", torch.bfloat16),
            product_attention(),
            casts_standing_in(casts),
            first_token(top),
        ):
            logits = model(**batch).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        losses.append(loss.item())
        watch.end_step()
    return model, losses, True


def _answer(model: Any, inputs: Any, split: Any) -> Any:
    """Tell for each row whether the model's answer is right."""
    from lora_tune.batching import make_collator
    from lora_tune.evaluation import evaluate_model

    collate = make_collator(inputs.tokenizer, inputs.task, model)
    evaluation = evaluate_model(model, split, task=inputs.task, collate=collate, title="")
    return evaluation.predictions == split.rows.labels


def _answer_test(model: Any, inputs: Any) -> list[int]:
    return [int(right) for right in _answer(model, inputs, inputs.data.test)]


def _trained(model: Any) -> list[Any]:
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


def _changed(before: list[Any], after: list[Any]) -> bool:
    return any(not a.equal(b) for a, b in zip(before, after, strict=True))


TUNED: dict[str, Any] = {"bf16": True, "train_sampling_strategy": "group_by_length"}
# As the recipe leaves it out, but for the head's.
STILL: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.1,
}
# What differs from the recipe, for those that run in lora_tune.
OURS: dict[str, list[str]] = {
    "ours": [],
    "ours, base's dropout": ["model.dropout=null"],
    "ours, two epochs": ["training.num_train_epochs=2"],
    "full, tuned as ours": ["training.learning_rate=5e-5"],
    "ceiling": [],
}
CONTESTANTS: dict[str, Callable[..., Any]] = {
    "tutorial": lambda i, _, w: train_by_trainer(i, w),
    "tuned Trainer": lambda i, _, w: train_by_trainer(i, w, **TUNED),
    "tuned, no dropout": lambda i, _, w: train_by_trainer(i, w, STILL, **TUNED),
    "ours, base's dropout": train_ours,
    "ours": train_ours,
    "ours, two epochs": train_ours,
    "full, tuned as ours": lambda i, a, w: train_ours(i, a, w, adapter=False),
    "ceiling": pass_through,
}

if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["LORA_TUNE_CACHE"] = ""  # nothing is recalled from another contestant
    name, data, *numbers = sys.argv[1:]
    print(json.dumps(main(name, data, *map(int, numbers))))
