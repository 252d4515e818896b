"""From the command line to a verb to an exit code; the only room that prints."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lora_tune.choices import COMBINATIONS, DTYPES, INPUT_FORMATS
from lora_tune.errors import DataError, LoraTuneError, RecipeError
from lora_tune.redaction import redact

DONE, BUG, USER_FAULT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 1 a bug in lora_tune (with its traceback); 2 the user can mend it; 130 interrupted.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all(map(_is_override, rest))):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest  # those after --output
    try:
        options.verb(options)
    except LoraTuneError as error:
        _complain(error)
        return USER_FAULT
    except BrokenPipeError:  # the reader of what is printed, such as `head`, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    except KeyboardInterrupt as error:
        _complain(error, "Interrupted: nothing was published")
        return INTERRUPTED
    except Exception:  # noqa: BLE001  a bug: its traceback, without the secrets in it
        print(redact(traceback.format_exc()), file=sys.stderr)
        return BUG
    return DONE


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


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
    _adapter(predict)
    given = predict.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="T", nargs="+", help="texts")
    given.add_argument(
        "--input",
        metavar="FILE",
        help="txt, csv, tsv, jsonl, json or parquet; - for standard input",
    )
    predict.add_argument("--column", metavar="NAME", help="of texts in the input (default: text)")
    predict.add_argument(
        "--format", choices=INPUT_FORMATS, help="of the input (default: its suffix; txt from -)"
    )
    predict.add_argument(
        "--output", metavar="FILE", help="csv or jsonl; - for standard output, as jsonl"
    )
    evaluate = _verb(verbs, "evaluate", _evaluate, "compare a saved adapter with its base again")
    _adapter(evaluate)
    _data(evaluate)
    evaluate.add_argument("--output", metavar="FILE", type=Path, help="the comparison, as json")
    merge = _verb(verbs, "merge", _merge, "merge adapters into their base: a plain model")
    _adapter(merge, nargs="+")
    _data(merge)
    merge.add_argument("--output", metavar="DIR", type=Path, required=True, help="of the model")
    merge.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    merge.add_argument(
        "--combine",
        choices=COMBINATIONS,
        help="several adapters: linear (default) adds up their changes exactly; others as in PEFT",
    )
    merge.add_argument("--weights", metavar="W", nargs="+", type=float, help="one for each adapter")
    merge.add_argument(
        "--density", metavar="D", type=_share, help="kept by ties and dare (default: 0.5)"
    )
    merge.add_argument("--force", action="store_true", help="write it however far it is off")
    push = _verb(verbs, "push", _push, "send an adapter to the Hub")
    _adapter(push, base=False)
    push.add_argument("repository", metavar="REPO_ID", help="owner/name")
    push.add_argument("--private", action="store_true", help="where the repository is new")
    push.add_argument("--revision", metavar="BRANCH", help="made where needed (default: main)")
    push.add_argument("--dry-run", action="store_true", help="show what would go up, send nothing")
    params = _verb(verbs, "params", _params, "count what recipes train, without their weights")
    params.add_argument(
        "overrides", metavar="RECIPE", nargs="+", help="names or paths; key=value too"
    )
    return parser


def _adapter(
    parser: argparse.ArgumentParser, *, nargs: str | None = None, base: bool = True
) -> None:
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        nargs=nargs,
        help="a directory, or a Hub id, owner/name[@revision]",
    )
    if base:
        parser.add_argument("--base", metavar="PLACE", help="of the base, if it has moved")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="FILE", type=Path, help="labelled rows (default: the run's test rows)"
    )


def _share(word: str) -> float:
    share = float(word)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {word}")
    return share


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
    _prepare()
    from lora_tune.run import run_recipe

    folder = run_recipe(recipe, output=options.output, show=_show_part)
    _show(f"Adapter: {folder / 'adapter'}")


def _predict(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.classifier import load_adapter
    from lora_tune.prediction import (
        check_output,
        describe_faults,
        make_rows,
        predict_rows,
        read_rows,
        writing_rows,
    )
    from lora_tune.tables import prediction_table

    if options.output:
        check_output(options.output, options.input)
    if options.text:
        rows = make_rows(options.text)
    else:
        rows = read_rows(options.input, options.column or "text", options.format)
    classifier = load_adapter(options.adapter, base=options.base)
    if options.output:
        with writing_rows(options.output, rows, classifier.labels) as write:
            predict_rows(classifier, rows, write)
    else:
        answers: list[Any] = []
        predict_rows(classifier, rows, lambda *answer: answers.append(answer))
        _show(prediction_table(answers, classifier.labels))
    faults = describe_faults(options.input or "--text", rows)
    if faults:
        raise DataError(faults)


def _evaluate(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.assessment import assess_adapter, write_comparison
    from lora_tune.tables import comparison_table

    comparison = assess_adapter(options.adapter, data=options.data, base=options.base, show=_show)
    _show(comparison_table(comparison))
    if options.output:
        write_comparison(options.output, comparison)


def _merge(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.merging import merge_adapters
    from lora_tune.tables import parity_table

    folder = merge_adapters(
        options.adapter,
        output=options.output,
        data=options.data,
        base=options.base,
        dtype=options.dtype,
        combination=options.combine,
        weights=options.weights,
        density=options.density,
        force=options.force,
        show=lambda parity: _show_part(parity_table(parity)),
    )
    _show(f"Model: {folder}")


def _push(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.shipping import pack_adapter, push_shipment
    from lora_tune.tables import shipment_table

    shipment = pack_adapter(options.adapter, options.repository)
    _show_part(shipment_table(shipment))
    if options.dry_run:
        _show("Dry run: nothing was sent.")
        return
    url = push_shipment(shipment, private=options.private, revision=options.revision)
    _show(f"Pushed: {url}")
    at = f"@{options.revision}" if options.revision else ""
    _show(f'Use it: lora-tune predict {shipment.repository}{at} --text "..."')


def _params(options: argparse.Namespace) -> None:
    from lora_tune.recipe_file import load_recipe

    overrides = list(filter(_is_override, options.overrides))
    names = [word for word in options.overrides if not _is_override(word)]
    if not names:
        raise RecipeError("params: expected the name of a recipe, or several")
    recipes = [load_recipe(name, overrides) for name in names]
    _prepare()
    from lora_tune.counting import count_recipe
    from lora_tune.tables import parameter_table

    _show(parameter_table([count_recipe(recipe) for recipe in recipes]))


def _prepare() -> None:
    """Set up the process for heavy work; the imports that follow it take seconds."""
    # A polite kill clears up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()


def _show_part(text: str) -> None:
    """Print a part of a longer output, tables set off by a blank line."""
    _show(f"{text}\n" if "\n" in text else text)


def _show(text: str) -> None:
    try:
        print(redact(text), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; the run goes on
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _complain(error: BaseException, message: str | None = None) -> None:
    lines = [message or str(error), *getattr(error, "__notes__", [])]
    print(redact("\n".join(lines)), file=sys.stderr)
