"""The story of a run: recipe, data, model, adapter, training, comparison, run directory."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_tune.adapter import (
    AdaptedModules,
    adapter_tensors,
    count_parameters,
    describe_adapter,
    save_adapter,
)
from lora_tune.architecture import check_room
from lora_tune.base import find_base
from lora_tune.batching import make_collator
from lora_tune.card import write_card
from lora_tune.comparison import LORA, Comparison, Cost, Example, compare
from lora_tune.data import load_data
from lora_tune.environment import (
    describe_environment,
    find_bfloat16_units,
    free_memory,
    peak_memory,
)
from lora_tune.fast.merged_lora import merged_lora
from lora_tune.history import History
from lora_tune.intake import Intake, show_row
from lora_tune.ladder import Rung, cheap_rungs
from lora_tune.manifest import seal_adapter
from lora_tune.model import load_tokenizer, unquantized_modules
from lora_tune.overfitting import Overfitting, judge_losses
from lora_tune.precision import WeightMemory, measure_weights
from lora_tune.predictor import Predictor
from lora_tune.recipe import Recipe
from lora_tune.reload import Answers, check_reload, record_answers
from lora_tune.report import write_report
from lora_tune.run_directory import drafting, write_results
from lora_tune.starts import check_rows, is_untouched, settle_adapter
from lora_tune.tables import (
    adapter_table,
    comparison_table,
    cost_line,
    data_table,
    examples_table,
    reload_line,
    weights_line,
)
from lora_tune.targets import find_targets
from lora_tune.tasks import find_task
from lora_tune.text_metrics import check_references
from lora_tune.training import make_arguments, train_adapter
from lora_tune.trials import (
    Inputs,
    adapt_model,
    load_base_model,
    train_costly_rungs,
    train_other_seeds,
)
from lora_tune.writing import evaluate_test, find_measure_of

if TYPE_CHECKING:
    from transformers import TrainingArguments

SELECTED_ON_TEST = (
    "The validation rows are copies of the test rows, so the best epoch was selected on the test "
    "rows, and LoRA looks better than it is."
)
UNTOUCHED = "Training changed nothing: the adapter is as fresh. Give it more steps, or less warmup."

SLOW_BFLOAT16 = (
    "training.bf16: this device has no instructions for bfloat16; training.bf16=false is likely "
    "faster here."
)


@dataclass(frozen=True)
class Trained:
    """What is left of a run when its model is gone."""

    base_memory: WeightMemory
    rungs: list[Rung]
    history: History
    overfitting: Overfitting
    modules: list[AdaptedModules]
    comparison: Comparison
    cost: Cost
    examples: list[Example]
    answers: Answers


def run_recipe(recipe: Recipe, *, output: Path | None = None, show: Callable[[str], None]) -> Path:
    """Train a recipe's adapter and compare it with everything cheaper on the same test rows.

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
        task = find_task(recipe.task, threshold=recipe.data.threshold)
        training = recipe.training | {"seed": recipe.all_seeds[0]}
        arguments = make_arguments(training, task=task, checkpoints=draft.checkpoints)
        if arguments.bf16 and find_bfloat16_units(arguments.device.type) == "none":
            show(SLOW_BFLOAT16)
        base = find_base(recipe.model)
        targets = find_targets(base, recipe.model, recipe.lora, task)
        check_room(base, recipe.generation, task)
        tokenizer = load_tokenizer(base, recipe.model, recipe.data)
        data = load_data(recipe.data, task, tokenizer)
        show(data_table(data, recipe.source_as_written))
        check_rows(recipe.lora, len(data.train.encoded))
        check_references(recipe.generation.metric, data.test)
        examples = Intake(task, recipe.data, tokenizer).take_all(recipe.examples, where="examples")
        inputs = Inputs(recipe, task, base, targets, tokenizer, data, draft.checkpoints)
        others = train_costly_rungs(inputs, show=show)
        seeds = train_other_seeds(inputs, show=show)
        free_memory()
        trained = _train(
            inputs, arguments, others, seeds, examples=examples, folder=draft.adapter, show=show
        )
        free_memory()  # of the trained model, which is gone, for the reloaded one
        reload = check_reload(draft.adapter, trained.answers)
        environment = describe_environment(arguments.device.type) | {
            "seed": arguments.seed,
            "model": base.name,
            "model_revision": base.revision,
            "base_weights": {"held_in": recipe.model.precision} | asdict(trained.base_memory),
            "data": recipe.source_as_written,
            "data_revision": data.commit,
            "data_fingerprint": data.fingerprint(),
            "test_fingerprint": data.fingerprint(["test"]),
            "best_step": trained.history.best_step,
            "autocast": "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else None,
        }
        write_results(
            draft,
            recipe_text=recipe.text,
            comparison=trained.comparison,
            rungs=trained.rungs,
            task=task,
            overfitting=trained.overfitting,
            modules=trained.modules,
            cost=trained.cost,
            reload=reload,
            examples=trained.examples,
            data=data,
            history=trained.history,
            environment=environment,
        )
        cost = cost_line(trained.cost, environment["device_name"])
        show(
            "\n".join(
                [comparison_table(trained.comparison, told=data.caveats), cost, reload_line(reload)]
            )
        )
        if recipe.examples:
            show(examples_table(trained.examples))
    show(f"Adapter: {draft.final / 'adapter'}")
    show(f"Report: {write_report(draft.final)}")
    return draft.final


def _train(
    inputs: Inputs,
    arguments: "TrainingArguments",
    others: Sequence[Rung],
    seeds: Mapping[int, Rung],
    *,
    examples: Sequence[Any],
    folder: Path,
    show: Callable[[str], None],
) -> Trained:
    """Evaluate the base, train the adapter on it, evaluate again, save the adapter.

    Args:
        examples: the recipe's own, as inputs.
    """
    recipe, task, data, tokenizer = inputs.recipe, inputs.task, inputs.data, inputs.tokenizer
    model, head, fresh_head = load_base_model(inputs, arguments.seed)
    base_memory, whole = measure_weights(model), unquantized_modules(model)
    if recipe.model.is_rounded:
        show(weights_line(base_memory, recipe.model.precision))
    collate, writer = make_collator(tokenizer, task, model), inputs.writer
    cheap = cheap_rungs(model, data, task, collate=collate, writer=writer)
    before = Predictor(model, tokenizer, task, data.labels, recipe.generation, recipe.data)
    told_before = before.predict_inputs(examples)

    adapted, start = adapt_model(inputs, model, head, arguments.seed)
    trainable, total = count_parameters(adapted)
    modules = describe_adapter(adapted, head)
    show(adapter_table(modules, trainable, total))
    history = train_adapter(
        adapted,
        data,
        arguments,
        training=recipe.training,
        task=task,
        collate=collate,
        show=show,
        lora_plus_ratio=recipe.lora.lora_plus_ratio,
    )
    untouched = [UNTOUCHED] if is_untouched(adapted, start) else []
    settle_adapter(adapted, recipe.lora, start)
    overfitting = judge_losses(
        history.evaluations,
        history.best_step,
        metric=arguments.metric_for_best_model,
        idle_loss=cheap[0].evaluation.metrics["loss"] if task.linear else None,
    )
    if overfitting.warning:
        show(overfitting.warning)
    with merged_lora(adapted) if recipe.training["fast"] else nullcontext():
        after = evaluate_test(
            adapted, data.test, task, collate=collate, writer=writer, title="adapted"
        )
    lora = Rung(LORA, after, trainable, history.train_seconds)
    predictor = replace(before, model=adapted)
    told = zip(recipe.examples, told_before, predictor.predict_inputs(examples), strict=True)
    shown = [Example(show_row(row), old.tell(), new.tell()) for row, old, new in told]
    rungs = [*cheap, *others, lora]
    comparison = compare(
        rungs,
        task=task,
        measure=find_measure_of(task, writer),
        fresh_head=fresh_head,
        parts=task.break_down(after.answers, data.test),
        seeds={arguments.seed: lora, **seeds},
        warning=SELECTED_ON_TEST if data.selected_on_test else "",
        caveats=data.caveats + untouched,
    )
    adapter_bytes = save_adapter(
        adapted, folder, base=inputs.base, tokenizer=tokenizer, labels=data.labels, task=task
    )
    cost = Cost(trainable, total, adapter_bytes, history.train_seconds, peak_memory())
    seal_adapter(
        folder,
        write_card(
            recipe,
            base=inputs.base,
            labels=data.labels,
            whole=whole,
            comparison=comparison,
            cost=cost,
            hub_data=data.commit is not None,
        ),
        task=task.name,
        labels=data.labels,
        base=inputs.base,
        loading=recipe.model,
        tensors=adapter_tensors(adapted),
        recipe_name=recipe.name,
        recipe=recipe.text,
        data_fingerprint=data.fingerprint(),
    )
    answers = record_answers(predictor, data.test.rows.inputs)
    return Trained(
        base_memory, rungs, history, overfitting, modules, comparison, cost, shown, answers
    )
