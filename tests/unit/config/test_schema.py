"""Keys and types: every fault gets one line with the key, what is found and what is expected."""

import pytest

QUOTES = "; in YAML, text such as 7 or no needs quotes"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lora.rnak=4", "lora.rnak is not a recipe key; did you mean lora.rank?"),
        ("lroa.rank=4", "lroa is not a recipe key; did you mean lora?"),
        (
            "data.train.sample=4",
            "data.train.sample is not a recipe key; did you mean data.train.samples?",
        ),
        (
            "_target_=os.system",
            "_target_ is not a recipe key; there are task, model, data, lora, training, baselines, "
            "generation, seeds, examples",
        ),
        (
            "training.learning_rat=1",
            "training.learning_rat is not a field of transformers.TrainingArguments; did you mean "
            "training.learning_rate?",
        ),
        (
            "training.dataloader_drop_last=true",
            "training.dataloader_drop_last cannot be set: every epoch uses every training row",
        ),
        (
            "training.output_dir=x",
            "training.output_dir cannot be set: name the run directory with --output DIR",
        ),
        (
            "training.hub_token=x",
            "training.hub_token cannot be set: a token does not belong in a recipe; log in with hf "
            "auth login",
        ),
        (
            "training.bf16_full_eval=true",
            "training.bf16_full_eval cannot be set: evaluation uses the precision the base model "
            "is loaded in; see model.dtype",
        ),
        (
            "training.learning_rate=nan",
            "training.learning_rate: found 'nan' (text), expected a number",
        ),
        (
            "training.learning_rate=.nan",
            "training.learning_rate: found nan, expected a finite number",
        ),
        (
            "training.token_budget=many",
            "training.token_budget: found 'many' (text), expected a whole number",
        ),
        (
            "training.token_budget=null",
            "training.token_budget: found null, expected a whole number",
        ),
        (
            "training.eval_strategy=no",
            f"training.eval_strategy: found False (true or false), expected text{QUOTES}",
        ),
        (
            "training.lr_scheduler_kwargs=[1]",
            "training.lr_scheduler_kwargs: found [1] (a list), expected a mapping or text or null",
        ),
        ("lora.rank=four", "lora.rank: found 'four' (text), expected a whole number"),
        ("lora.rank='4'", "lora.rank: found '4' (text), expected a whole number"),
        ("lora.rank=4.0", "lora.rank: found 4.0 (a number), expected a whole number"),
        ("lora.rank=true", "lora.rank: found True (true or false), expected a whole number"),
        ("lora.rank.x=4", "lora.rank: found {'x': 4} (a mapping), expected a whole number"),
        ("lora.dropout=true", "lora.dropout: found True (true or false), expected a number"),
        ("lora.use_dora=1", "lora.use_dora: found 1 (a whole number), expected true or false"),
        ("lora=4", "lora: found 4 (a whole number), expected a section with keys below it"),
        ("lora=null", "lora: found null, expected a section with keys below it"),
        (
            "data.labels=[no,yes]",
            "data.labels: found [False, True] (a list), expected a list of text or null" + QUOTES,
        ),
        ("data.text=010", f"data.text: found 8 (a whole number), expected text{QUOTES}"),
        (
            "data.chat_template=1",
            "data.chat_template: found 1 (a whole number), expected true or false or text or null"
            + QUOTES,
        ),
        (
            "model.quantization=3bit",
            "model.quantization: found '3bit' (text), expected 4bit or 8bit or null; did you mean "
            "8bit?",
        ),
        (
            "model.dtype=bf16",
            "model.dtype: found 'bf16' (text), expected float32, bfloat16 or float16; did you mean "
            "bfloat16?",
        ),
        ("lora.bias=some", "lora.bias: found 'some' (text), expected none, all or lora_only"),
        (
            "lora.rank_pattern={query: x}",
            "lora.rank_pattern: found {'query': 'x'} (a mapping), expected a mapping of text to a "
            "whole number",
        ),
        (
            "lora.rank_pattern={0: 4}",
            "lora.rank_pattern: found {0: 4} (a mapping), expected a mapping of text to a whole "
            "number",
        ),
        (
            "lora.rank_pattern=4",
            "lora.rank_pattern: found 4 (a whole number), expected a mapping of text to a whole "
            "number",
        ),
        ("lora.alpha_pattern={query: .inf}", "lora.alpha_pattern: found inf, expected a finite nu"),
        (
            "lora.layers_to_transform=1",
            "lora.layers_to_transform: found 1 (a whole number), expected a list of whole numbers "
            "or null",
        ),
        (
            "lora.modules_to_save=x",
            "lora.modules_to_save: found 'x' (text), expected a list of text or null",
        ),
        (
            "lora.target_modules=[1]",
            "lora.target_modules: found [1] (a list), expected text or a list of text" + QUOTES,
        ),
        (
            "lora.exclude_modules=[1]",
            "lora.exclude_modules: found [1] (a list), expected text or a list of text or null",
        ),
        (
            "lora.init_lora_weights=true",
            f"lora.init_lora_weights: found True (true or false), expected text{QUOTES}",
        ),
    ],
)
def test_a_wrong_key_or_type_gets_one_line(write, fault_lines, override, line):
    (only,) = fault_lines(write(), override)
    assert only.startswith(f"command line: {line}")


@pytest.mark.parametrize(
    "override",
    [
        "lora.alpha=3",
        "lora.dropout=0",
        "lora.layers_to_transform=[0,2]",
        "training.lr_scheduler_kwargs={num_cycles: 2}",
        "training.report_to=[tensorboard]",
        "training.num_train_epochs=0.5",
        "training.lr_scheduler_type=cosine",
        "training.max_grad_norm=1",
        "training.greater_is_better=null",
    ],
)
def test_a_right_type_is_accepted_as_it_is(load, override):
    load(override)
