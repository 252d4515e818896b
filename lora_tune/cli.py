"""From the command line to a verb to an exit code; the only room that prints."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lora_tune.errors import LoraTuneError, RecipeError

DONE, USER_FAULT, INTERRUPTED = 0, 2, 130  # 1, with a traceback, is a bug of ours


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 1 a bug in lora_tune (with its traceback); 2 the user can mend it; 130 interrupted.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if any(word.startswith("-") or "=" not in word for word in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.overrides = [*getattr(options, "overrides", []), *rest]  # also after --output
    try:
        options.verb(options)
    except LoraTuneError as error:
        _complain(error)
        return USER_FAULT
    except KeyboardInterrupt as error:
        _complain(error, "Interrupted: nothing was published")
        return INTERRUPTED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lora-tune", description="Fine-tune a model with LoRA, and know that it worked."
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    train = _verb(verbs, "train", _train, "train a recipe's adapter and compare it with its base")
    train.add_argument("recipe", metavar="RECIPE", help="a name in recipes/, or a path")
    train.add_argument("overrides", metavar="key=value", nargs="*", help="such as lora.rank=16")
    train.add_argument("--output", metavar="DIR", type=Path, help="the run directory")
    predict = _verb(verbs, "predict", _predict, "label names and probabilities for texts")
    predict.add_argument("adapter", metavar="ADAPTER", type=Path, help="an adapter directory")
    given = predict.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="T", nargs="+", help="texts")
    given.add_argument("--input", metavar="FILE", type=Path, help="csv, tsv, json(l) or parquet")
    predict.add_argument("--column", metavar="NAME", default="text", help="of texts in the input")
    predict.add_argument("--output", metavar="FILE", type=Path, help="csv or jsonl")
    params = _verb(verbs, "params", _params, "count what recipes train, without their weights")
    params.add_argument(
        "recipes", metavar="RECIPE", nargs="+", help="names or paths; key=value too"
    )
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], None],
    summary: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(verb=run)
    return parser


def _train(options: argparse.Namespace) -> None:
    from lora_tune.recipe_file import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a polite kill clears up as Ctrl-C does
    _prepare()
    from lora_tune.run import run_recipe

    folder = run_recipe(recipe, output=options.output, show=_show_part)
    _show(f"Adapter: {folder / 'adapter'}")


def _predict(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.prediction import check_output, load_adapter, read_texts, write_predictions
    from lora_tune.tables import prediction_table

    if options.output:
        check_output(options.output, options.input)
    texts = options.text or read_texts(options.input, options.column)
    classifier = load_adapter(options.adapter)
    predictions = classifier.predict(texts, title="predict")
    if options.output:
        write_predictions(options.output, texts, predictions)
    else:
        _show(prediction_table(texts, predictions))


def _params(options: argparse.Namespace) -> None:
    from lora_tune.recipe_file import load_recipe

    overrides = [word for word in options.recipes if "=" in word] + options.overrides
    names = [word for word in options.recipes if "=" not in word]
    if not names:
        raise RecipeError("params: expected the name of a recipe, or several")
    recipes = [load_recipe(name, overrides) for name in names]
    _prepare()
    from lora_tune.counting import count_recipe
    from lora_tune.tables import parameter_table

    _show(parameter_table([count_recipe(recipe) for recipe in recipes]))


def _prepare() -> None:
    """Set up the process for heavy work; the imports that follow it take seconds."""
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()


def _show_part(text: str) -> None:
    """Print a part of a longer output, tables set off by a blank line."""
    _show(f"{text}\n" if "\n" in text else text)


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; the run goes on
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _complain(error: BaseException, message: str | None = None) -> None:
    print(message or error, *getattr(error, "__notes__", []), sep="\n", file=sys.stderr)
