"""lora_tune: the recipe minilm_imdb_lora on these rows.

`same`: with the settings of the others; `still`: but for the base's dropout, which is left out;
`head`: its head alone on a frozen base.
"""

import os
import sys
from pathlib import Path
from typing import Any

from work import Work, read_rows, read_work, report

SAME = {"same": "null", "still": "0.0"}  # a way -> dropout in the base


def name_settings(work: Work, dropout: str) -> list[str]:
    """Say the settings of the others in the recipe's words."""
    return [
        f"lora.rank={work.rank}",
        f"lora.alpha={work.alpha}",
        f"lora.target_modules=[{', '.join(work.modules)}]",
        f"training.learning_rate={work.learning_rate}",
        f"training.per_device_train_batch_size={work.batch}",
        f"training.num_train_epochs={work.epochs}",
        "training.warmup_steps=0",
        "training.adam_beta2=0.999",
        f"data.max_length={work.max_length}",
        "data.truncation_side=right",
        f"model.dropout={dropout}",
    ]


def main(work: Work, way: str) -> None:
    """Train, answer, report."""
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from lora_tune.base import find_base
    from lora_tune.batching import make_collator
    from lora_tune.data import load_data
    from lora_tune.ladder import cheap_rungs
    from lora_tune.model import load_tokenizer
    from lora_tune.recipe_file import load_recipe
    from lora_tune.targets import find_targets
    from lora_tune.tasks import find_task
    from lora_tune.trials import Inputs, load_base_model

    files = {"train": work.train, "test": work.test}
    rows = [f"data.{split}.{key}=null" for split in files for key in ("samples", "split")]
    rows += [f"data.{split}.file={path}" for split, path in files.items()]
    seed = f"training.seed={work.seed}"
    changes = [*rows, seed, *(name_settings(work, SAME[way]) if way in SAME else [])]
    recipe = load_recipe("minilm_imdb_lora", [f"data.source={work.train}", *changes])
    task, base = find_task(recipe.task), find_base(recipe.model)
    assert base.folder == Path(work.base)
    tokenizer = load_tokenizer(base, recipe.model, recipe.data)
    data = load_data(recipe.data, task, tokenizer)
    assert data.test.rows.labels.tolist() == [row["label"] for row in read_rows(work.test)]
    targets = find_targets(base, recipe.model, recipe.lora, task)
    inputs = Inputs(recipe, task, base, targets, tokenizer, data, Path(work.folder))
    model, head, _ = load_base_model(inputs, work.seed)
    collate = make_collator(tokenizer, task, model)
    if way == "head":
        *_, rung = cheap_rungs(model, data, task, collate=collate)
        evaluation, seconds, settings = rung.evaluation, rung.train_seconds, rung.note
    else:
        evaluation, seconds = train(inputs, model, head, collate)
        kept = recipe.training
        settings = (
            f"{recipe.lora.target_modules}, {kept['num_train_epochs']} epochs of batches of "
            f"{kept['per_device_train_batch_size']}, learning rate {kept['learning_rate']:g}, "
            f"warm-up {kept['warmup_steps']:g}, beta2 {kept.get('adam_beta2', 0.999):g}, "
            f"texts cut on the {recipe.data.truncation_side}, bfloat16, "
            f"{'no' if recipe.model.dropout == 0 else 'its own'} dropout in the base; a tenth of "
            "the rows is for validation"
        )
    assert seconds is not None
    answers = evaluation.predictions.tolist()
    report("lora-tune", train_seconds=seconds, settings=settings, answers=answers)


def train(inputs: Any, model: Any, head: list[str], collate: Any) -> Any:
    """Train as `lora_tune.run` does; returns the answers to the test rows, and the seconds."""
    from lora_tune.training import make_arguments, train_adapter
    from lora_tune.trials import adapt_model
    from lora_tune.writing import evaluate_test

    recipe, task, data = inputs.recipe, inputs.task, inputs.data
    arguments = make_arguments(recipe.training, task=task, checkpoints=inputs.checkpoints)
    adapted, _ = adapt_model(inputs, model, head, arguments.seed)
    history = train_adapter(
        adapted,
        data,
        arguments,
        training=recipe.training,
        task=task,
        collate=collate,
        show=lambda _: None,
        lora_plus_ratio=recipe.lora.lora_plus_ratio,
    )
    evaluation = evaluate_test(adapted, data.test, task, collate=collate, writer=None, title="")
    return evaluation, history.train_seconds


os.environ["LORA_TUNE_CACHE"] = ""  # nothing is recalled from a run before
main(read_work(), *sys.argv[2:] or ["recipe"])
