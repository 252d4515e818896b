"""lora_tune: a language model on plain texts, through its own parts."""

import os
from pathlib import Path

from work import Work, read_work, report


def name_overrides(work: Work) -> list[str]:
    """Say the work in the recipe's words."""
    spare = Path(work.folder) / "spare.jsonl"  # nothing is chosen by it: all others are trained on
    spare.write_text('{"text": "A row that no one looks at."}\n')
    files = {"train": work.train, "validation": str(spare), "test": work.test}
    rows = [f"data.{split}.{key}=null" for split in files for key in ("samples", "split")]
    return [
        f"model.name={work.base}",
        "model.pad_token=null",
        f"data.source={work.train}",
        *rows,
        *[f"data.{split}.file={path}" for split, path in files.items()],
        f"data.max_length={work.max_length}",
        f"lora.rank={work.rank}",
        f"lora.alpha={work.alpha}",
        f"lora.target_modules=[{', '.join(work.modules)}]",
        f"training.learning_rate={work.learning_rate}",
        f"training.per_device_train_batch_size={work.batch}",
        "training.gradient_accumulation_steps=1",
        f"training.num_train_epochs={work.epochs}",
        f"training.seed={work.seed}",
        "training.eval_strategy='no'",
        "training.save_strategy='no'",
        "training.load_best_model_at_end=false",
        "training.bf16=true",
    ]


def main(work: Work) -> None:
    """Train, save, report."""
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from lora_tune.adapter import save_adapter
    from lora_tune.base import find_base
    from lora_tune.batching import make_collator
    from lora_tune.data import load_data
    from lora_tune.model import load_tokenizer
    from lora_tune.recipe_file import load_recipe
    from lora_tune.targets import find_targets
    from lora_tune.tasks import find_task
    from lora_tune.training import make_arguments, train_adapter
    from lora_tune.trials import Inputs, adapt_model, load_base_model

    recipe = load_recipe("gpt2_tweets_causal_lora", name_overrides(work))
    task, base = find_task(recipe.task), find_base(recipe.model)
    tokenizer = load_tokenizer(base, recipe.model, recipe.data)
    data = load_data(recipe.data, task, tokenizer)
    targets = find_targets(base, recipe.model, recipe.lora, task)
    inputs = Inputs(recipe, task, base, targets, tokenizer, data, Path(work.folder) / "checkpoints")
    model, head, _ = load_base_model(inputs, work.seed)
    adapted, _ = adapt_model(inputs, model, head, work.seed)
    history = train_adapter(
        adapted,
        data,
        make_arguments(recipe.training, task=task, checkpoints=inputs.checkpoints),
        training=recipe.training,
        task=task,
        collate=make_collator(tokenizer, task, model),
        show=lambda _: None,
    )
    save_adapter(adapted, Path(work.folder), base=base, tokenizer=tokenizer, labels=[], task=task)
    report("lora-tune", train_seconds=history.train_seconds, settings="bf16, texts end to end")


os.environ["LORA_TUNE_CACHE"] = ""  # nothing is recalled from a run before
main(read_work())
