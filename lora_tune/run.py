"""The story of a run: recipe, data, model, adapter, training, comparison, run directory."""

from collections.abc import Callable
from pathlib import Path

from lora_tune.adapter import (
    attach_adapter,
    count_parameters,
    describe_adapter,
    find_targets,
    is_untouched,
    save_adapter,
)
from lora_tune.base import find_base
from lora_tune.batching import make_collator
from lora_tune.card import write_card
from lora_tune.comparison import Comparison, Example, accuracy_interval
from lora_tune.data import load_data
from lora_tune.environment import describe_environment, seed_everything
from lora_tune.evaluation import evaluate_model
from lora_tune.model import load_model, load_tokenizer
from lora_tune.prediction import Classifier
from lora_tune.recipe import Recipe
from lora_tune.run_directory import drafting, write_results
from lora_tune.tables import adapter_table, comparison_table, data_table, examples_table
from lora_tune.tasks import find_task
from lora_tune.training import make_arguments, train_adapter

UNTOUCHED = "Training changed nothing: the adapter is as fresh. Give it more steps, or less warmup."


def run_recipe(recipe: Recipe, *, output: Path | None = None, show: Callable[[str], None]) -> Path:
    """Train a recipe's adapter and compare it with its base on the same test rows.

    Args:
        output: the run directory; None for `runs/<recipe>/<UTC time>`.
        show: takes each table, as text, when it is known.

    Returns:
        The run directory.

    Raises:
        LoraTuneError: the recipe, its data or its base is not right; said before weights are
            loaded wherever that can be known then.
    """
    with drafting(recipe.name, output) as draft:
        task = find_task(recipe.task)
        arguments = make_arguments(recipe.training, task=task, checkpoints=draft.checkpoints)
        base = find_base(recipe.model)
        targets = find_targets(base, recipe.model, recipe.lora, task)
        tokenizer = load_tokenizer(base, recipe.model, recipe.data)
        data = load_data(recipe.data, task, tokenizer)
        show(data_table(data, recipe.source_as_written))

        seed_everything(arguments.seed)  # covers the head, the adapter and the order of the rows
        model, head, fresh_head = load_model(
            base, recipe.model, task=task, labels=data.labels, tokenizer=tokenizer
        )
        if recipe.model.quantization is None:  # bitsandbytes places its own
            model.to(arguments.device)
        collate = make_collator(tokenizer)
        before = evaluate_model(model, data.test, task=task, collate=collate, title="base")
        examples_before = Classifier(model, tokenizer, data.labels).predict(recipe.examples)

        adapted = attach_adapter(model, recipe.lora, targets=targets, head=head, task=task)
        trainable, total = count_parameters(adapted)
        show(adapter_table(describe_adapter(adapted), trainable, total))
        history = train_adapter(
            adapted,
            data,
            arguments,
            training=recipe.training,
            task=task,
            collate=collate,
            show=show,
        )
        after = evaluate_model(adapted, data.test, task=task, collate=collate, title="adapted")
        examples_after = Classifier(adapted, tokenizer, data.labels).predict(recipe.examples)

        adapter_bytes = save_adapter(
            adapted, draft.adapter, base=base, tokenizer=tokenizer, labels=data.labels
        )
        comparison = Comparison(
            task=recipe.task,
            metric=task.metric,
            test_rows=len(data.test.rows.texts),
            base=before.metrics,
            adapted=after.metrics,
            difference=after.metrics[task.metric] - before.metrics[task.metric],
            difference_interval=accuracy_interval(before, after, data.test.rows.labels),
            trainable_parameters=trainable,
            total_parameters=total,
            adapter_bytes=adapter_bytes,
            train_seconds=history.train_seconds,
            examples=[
                Example(*row)
                for row in zip(recipe.examples, examples_before, examples_after, strict=True)
            ],
            fresh_head=fresh_head,
            caveats=data.caveats + ([UNTOUCHED] if is_untouched(adapted) else []),
        )
        card = write_card(recipe, base=base, labels=data.labels, comparison=comparison)
        environment = describe_environment(arguments.device.type) | {
            "seed": arguments.seed,
            "model": base.name,
            "model_revision": base.revision,
            "data": recipe.source_as_written,
            "data_revision": data.commit,
            "data_fingerprint": data.fingerprint(),
            "best_step": history.best_step,
        }
        write_results(
            draft,
            recipe_text=recipe.text,
            card=card,
            comparison=comparison,
            data=data,
            base=before,
            adapted=after,
            history=history,
            environment=environment,
        )
        show(comparison_table(comparison, environment["device_name"]))
        if recipe.examples:
            show(examples_table(comparison.examples))
    return draft.final
