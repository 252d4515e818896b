"""The story of a run: recipe, data, model, adapter, training, comparison, run directory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.adapter import (
    adapter_tensors,
    attach_adapter,
    count_parameters,
    describe_adapter,
    is_untouched,
    save_adapter,
)
from lora_tune.base import Base, find_base
from lora_tune.batching import make_collator
from lora_tune.card import write_card
from lora_tune.classifier import Classifier
from lora_tune.comparison import Comparison, Cost, Example, compare
from lora_tune.data import Data, load_data
from lora_tune.environment import describe_environment, free_memory, seed_everything
from lora_tune.evaluation import Evaluation, evaluate_model
from lora_tune.manifest import seal_adapter
from lora_tune.model import load_model, load_tokenizer
from lora_tune.recipe import Recipe
from lora_tune.reload import Answers, check_reload, record_answers
from lora_tune.run_directory import drafting, write_results
from lora_tune.tables import (
    adapter_table,
    comparison_table,
    cost_line,
    data_table,
    examples_table,
    reload_line,
)
from lora_tune.targets import find_targets
from lora_tune.tasks import find_task
from lora_tune.training import History, make_arguments, train_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainingArguments

UNTOUCHED = "Training changed nothing: the adapter is as fresh. Give it more steps, or less warmup."


@dataclass(frozen=True)
class Inputs:
    """What is known of a run before its model is loaded."""

    folder: Path  # of the adapter
    arguments: "TrainingArguments"
    base: Base
    targets: list[str]
    tokenizer: "PreTrainedTokenizerBase"
    data: Data


@dataclass(frozen=True)
class Trained:
    """What is left of a run when its model is gone."""

    before: Evaluation
    after: Evaluation
    history: History
    comparison: Comparison
    cost: Cost
    examples: list[Example]
    answers: Answers


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
        trained = _train(
            recipe,
            Inputs(draft.adapter, arguments, base, targets, tokenizer, data),
            show=show,
        )
        free_memory()  # of the trained model, which is gone, for the reloaded one
        reload = check_reload(draft.adapter, trained.answers)
        environment = describe_environment(arguments.device.type) | {
            "seed": arguments.seed,
            "model": base.name,
            "model_revision": base.revision,
            "data": recipe.source_as_written,
            "data_revision": data.commit,
            "data_fingerprint": data.fingerprint(),
            "best_step": trained.history.best_step,
        }
        write_results(
            draft,
            recipe_text=recipe.text,
            comparison=trained.comparison,
            cost=trained.cost,
            reload=reload,
            examples=trained.examples,
            data=data,
            base=trained.before,
            adapted=trained.after,
            history=trained.history,
            environment=environment,
        )
        cost = cost_line(trained.cost, environment["device_name"])
        show("\n".join([comparison_table(trained.comparison), cost, reload_line(reload)]))
        if recipe.examples:
            show(examples_table(trained.examples))
    return draft.final


def _train(recipe: Recipe, inputs: Inputs, *, show: Callable[[str], None]) -> Trained:
    """Evaluate the base, train the adapter on it, evaluate again, save the adapter."""
    task, data, tokenizer = find_task(recipe.task), inputs.data, inputs.tokenizer
    seed_everything(inputs.arguments.seed)  # covers head, adapter and the order of the rows
    model, head, fresh_head = load_model(
        inputs.base, recipe.model, task=task, labels=data.labels, tokenizer=tokenizer
    )
    if recipe.model.quantization is None:  # bitsandbytes places its own
        model.to(inputs.arguments.device)
    collate = make_collator(tokenizer)
    before = evaluate_model(model, data.test, task=task, collate=collate, title="base")
    examples_before = Classifier(model, tokenizer, data.labels).predict(recipe.examples)

    adapted = attach_adapter(model, recipe.lora, targets=inputs.targets, head=head, task=task)
    trainable, total = count_parameters(adapted)
    show(adapter_table(describe_adapter(adapted), trainable, total))
    history = train_adapter(
        adapted,
        data,
        inputs.arguments,
        training=recipe.training,
        task=task,
        collate=collate,
        show=show,
    )
    after = evaluate_model(adapted, data.test, task=task, collate=collate, title="adapted")
    classifier = Classifier(adapted, tokenizer, data.labels)
    examples = map(Example, recipe.examples, examples_before, classifier.predict(recipe.examples))
    comparison = compare(
        before,
        after,
        data.test.rows.labels,
        task=task,
        fresh_head=fresh_head,
        caveats=data.caveats + ([UNTOUCHED] if is_untouched(adapted) else []),
    )
    adapter_bytes = save_adapter(
        adapted, inputs.folder, base=inputs.base, tokenizer=tokenizer, labels=data.labels
    )
    cost = Cost(trainable, total, adapter_bytes, history.train_seconds)
    seal_adapter(
        inputs.folder,
        write_card(
            recipe,
            base=inputs.base,
            labels=data.labels,
            comparison=comparison,
            cost=cost,
            hub_data=data.commit is not None,
        ),
        task=task.name,
        labels=data.labels,
        base=inputs.base,
        quantization=recipe.model.quantization,
        tensors=adapter_tensors(adapted),
        recipe_name=recipe.name,
        recipe=recipe.text,
        data_fingerprint=data.fingerprint(),
    )
    answers = record_answers(classifier, data.test.rows.texts)
    return Trained(before, after, history, comparison, cost, list(examples), answers)
